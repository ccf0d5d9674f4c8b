"""Clients for churn_test.sh, traffic_test.sh and traffic_kinds_test.sh, run in a container's network
namespace or outside.

traffic_tools.py ask STOP-FILE OUT VIA SERVICE=[KIND/]HOST:PORT...
    asks each in turn until the file is there. HOST is an address, or a name for 127.0.0.11, which is
    asked for it each time. OUT gets a line for each request that failed, "BEGIN END VIA SERVICE TARGET
    REASON", now and then one "asked N WORST", and in the end "ended N WORST ANSWERS", with how many
    answers that differ there were. KIND is
        tcp    (the default) a page by a connection of its own
        udp    a word in a datagram from a port of its own, not used lately, which "WORD of ANSWER"
               answers. Said once.
        flow   the same, all from one port. Once more when there is no answer, but not when nobody listens.
    and by IPv6 with a 6 behind it.
traffic_tools.py streams STOP-FILE OUT VIA SERVICE=[KIND/]HOST:PORT...
    asks all of them at the same time, the first into OUT.0, the next into OUT.1.
traffic_tools.py judge EXCUSES OUT...
    prints requests that failed and that nothing excuses; EXCUSES has lines "BEGIN END WHAT", with a
    service's name or a VIA as WHAT. The last line is how many were asked.
traffic_tools.py fetch HOST:PORT OUT
    reads http://HOST:PORT/cgi-bin/long by one connection, which sends lines "N ..." until it ends with
    "last N", and says in OUT that it has begun, and how it ended: "whole" when no line was missing.
"""

import os
import random
import socket
import sys
import threading
import time

SLOW = int(os.environ.get("MUSTER_TEST_SLOW", "1"))
LIMIT_S = 5 * SLOW
# What is a light load for a host would be all that an emulated one can do.
PAUSE_S = 0.05 * SLOW
# Many at the same time are as light together.
STREAM_PAUSE_S = 0.1 * SLOW
# How soon a flow's question is asked anew.
ANEW_S = 1 * SLOW
# Of an answer that is older by the time it is used, since there was no processor, another is asked for: an
# address of a task may be called while it is given, and who waits has kept it.
FRESH_S = 0.02 * SLOW
# A port that is taken again sooner goes on with the flow it had, which may move while it asks.
AGAIN_S = 60


def resolve(name, family):
    ident = random.randrange(65536)
    labels = b"".join(bytes([len(l)]) + l.encode() for l in name.split("."))
    kind = b"\0\1" if family == socket.AF_INET else b"\0\x1c"
    question = labels + b"\0" + kind + b"\0\1"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(LIMIT_S)
        sock.connect(("127.0.0.11", 53))
        sock.send(ident.to_bytes(2, "big") + b"\1\0\0\1\0\0\0\0\0\0" + question)
        reply = sock.recv(4096)
    if reply[:2] != ident.to_bytes(2, "big") or reply[3] & 15 or reply[6:8] == b"\0\0":
        raise OSError(f"no address of {name}")
    # The first record: the name in two bytes, then type, class, TTL, length.
    at = 12 + len(question)
    if reply[at] < 0xc0 or reply[at + 2:at + 4] != kind:
        raise OSError(f"no address of {name}")
    return socket.inet_ntop(family, reply[at + 12:at + 12 + (4 if family == socket.AF_INET else 16)])


def where(target, family=socket.AF_INET):
    host, port = target.rsplit(":", 1)
    if host[0] == "[":
        return host[1:-1], int(port)
    if host[0].isdigit():
        return host, int(port)
    end = time.monotonic() + LIMIT_S
    while True:
        begin = time.monotonic()
        address = resolve(host, family)
        if not begin + FRESH_S < time.monotonic() < end:
            return address, int(port)


def connect(target, family=socket.AF_INET):
    address = where(target, family)
    try:
        return socket.create_connection(address, LIMIT_S), address[0]
    except OSError as trouble:
        raise OSError(f"{address[0]}: {trouble!r}") from trouble


def request_page(target, family):
    sock, host = connect(target, family)
    with sock:
        sock.settimeout(LIMIT_S)
        sock.sendall(f"GET / HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
        page = b""
        while True:
            part = sock.recv(4096)
            if not part:
                break
            page += part
    head, _, body = page.partition(b"\r\n\r\n")
    if b" 200 " not in head.split(b"\r\n")[0] or not body.endswith(b"\n"):
        raise OSError(f"a page of {len(page)} bytes: {page[:60]!r}")
    return body


def request_datagram(target, family, sock, limit_s=LIMIT_S):
    address = where(target, family)
    word = f"{random.getrandbits(64):016x}".encode()
    end = time.monotonic() + limit_s
    try:
        sock.connect(address)
        sock.send(word + b"\n")
        while True:
            sock.settimeout(max(end - time.monotonic(), 0.001))
            said, _, answer = sock.recv(4096).partition(b" of ")
            # What comes too late is of an earlier question.
            if said == word and answer:
                return answer
    except OSError as trouble:
        raise OSError(f"{address[0]}, from port {sock.getsockname()[1]}: {trouble!r}") from trouble


# Of a flow that is led elsewhere the answer that is under way finds its way no more, which no balancer can
# help; but the next question is answered, by who took over.
def request_by_flow(target, family, sock):
    try:
        return request_datagram(target, family, sock, ANEW_S)
    except OSError as trouble:
        if not isinstance(trouble.__cause__, TimeoutError):
            raise
        return request_datagram(target, family, sock)


class Target:
    def __init__(self, text):
        self.text = text
        kind, _, self.where = text.rpartition("/")
        self.family = socket.AF_INET6 if kind.endswith("6") else socket.AF_INET
        self.kind = kind.rstrip("6") or "tcp"
        self.flow = socket.socket(self.family, socket.SOCK_DGRAM) if self.kind == "flow" else None
        self.lately = {}

    def request(self):
        if self.kind == "tcp":
            return request_page(self.where, self.family)
        if self.kind == "flow":
            return request_by_flow(self.where, self.family, self.flow)
        with self.on_fresh_port() as sock:
            return request_datagram(self.where, self.family, sock)

    def on_fresh_port(self):
        now = time.monotonic()
        while True:
            sock = socket.socket(self.family, socket.SOCK_DGRAM)
            sock.bind(("", 0))
            port = sock.getsockname()[1]
            if now - self.lately.get(port, now - AGAIN_S) >= AGAIN_S:
                self.lately[port] = now
                return sock
            sock.close()


def ask(stop_file, out_path, via, *targets, pause_s=PAUSE_S):
    asked, worst, answers = 0, 0.0, set()
    targets = [(each.split("=")[0], Target(each.split("=")[1])) for each in targets]
    with open(out_path, "w", encoding="utf-8", buffering=1) as out:
        while not os.path.exists(stop_file):
            for service, target in targets:
                begin = time.time()
                asked += 1
                try:
                    answers.add(target.request())
                    worst = max(worst, time.time() - begin)
                except OSError as trouble:
                    out.write(f"{begin:.3f} {time.time():.3f} {via} {service} {target.text} {trouble!r}\n")
                time.sleep(pause_s)
            out.write(f"asked {asked} {worst:.3f}\n")
        out.write(f"ended {asked} {worst:.3f} {len(answers)}\n")


def streams(stop_file, out_path, via, *targets):
    threads = [threading.Thread(target=ask, args=(stop_file, f"{out_path}.{number}", via, target),
                                kwargs={"pause_s": STREAM_PAUSE_S}) for number, target in enumerate(targets)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def judge(excuses_path, *paths):
    excuses, asked, worst = [], 0, 0.0
    with open(excuses_path, encoding="utf-8") as lines:
        for line in lines:
            begin, end, what = line.split()
            excuses.append((float(begin), float(end), what))
    for path in paths:
        ended = False
        with open(path, encoding="utf-8") as lines:
            for line in lines:
                words = line.split()
                if words[0] == "ended":
                    asked, worst, ended = asked + int(words[1]), max(worst, float(words[2])), True
                if words[0] in ("asked", "ended"):
                    continue
                begin, end = float(words[0]), float(words[1])
                if not any(b <= end and begin <= e and what in words[2:4] for b, e, what in excuses):
                    print(line.strip())
        if not ended:
            print(f"{path} has no end")
    print(asked, "asked, the slowest answer after", f"{worst:.3f} s")


def lines_of(sock, begun):
    rest, head = b"", True
    while True:
        part = sock.recv(16384)
        if not part:
            break
        lines = (rest + part).split(b"\n")
        rest = lines.pop()
        for line in lines:
            if not head:
                yield line
            elif line in (b"", b"\r"):
                head = False
                begun()
    if rest:
        raise OSError(f"it ends in the middle of a line: {rest[:40]!r}")


def fetch(target, out_path):
    with open(out_path, "w", encoding="utf-8", buffering=1) as out:
        try:
            sock, host = connect(target)
            sock.settimeout(6 * LIMIT_S)
            sock.sendall(f"GET /cgi-bin/long HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
            number, last = 0, False
            for line in lines_of(sock, lambda: out.write("begun\n")):
                words = line.split()
                if last or int(words[words[0] == b"last"]) != number:
                    raise OSError(f"line {number} is {line[:40]!r}")
                last = words[0] == b"last"
                number += 1
            if not last:
                raise OSError(f"it ends in line {number}")
            out.write(f"whole: {number} lines\n")
        except (OSError, ValueError, IndexError) as trouble:
            out.write(f"broken: {trouble!r}\n")


if __name__ == "__main__":
    {"ask": ask, "streams": streams, "judge": judge, "fetch": fetch}[sys.argv[1]](*sys.argv[2:])
