"""Clients for churn_test.sh and traffic_test.sh, run in a container's network namespace or outside.

traffic_tools.py ask STOP-FILE OUT VIA SERVICE=HOST:PORT...
    asks each in turn until the file is there. HOST is an address, or a name for 127.0.0.11. OUT gets
    a line for each request that failed, "BEGIN END VIA SERVICE TARGET REASON", now and then one
    "asked N WORST", and in the end "ended N WORST".
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
import time

SLOW = int(os.environ.get("MUSTER_TEST_SLOW", "1"))
LIMIT_S = 5 * SLOW
# What is a light load for a host would be all that an emulated one can do.
PAUSE_S = 0.05 * SLOW


def resolve(name):
    ident = random.randrange(65536)
    labels = b"".join(bytes([len(l)]) + l.encode() for l in name.split("."))
    question = labels + b"\0\0\1\0\1"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(LIMIT_S)
        sock.connect(("127.0.0.11", 53))
        sock.send(ident.to_bytes(2, "big") + b"\1\0\0\1\0\0\0\0\0\0" + question)
        reply = sock.recv(4096)
    if reply[:2] != ident.to_bytes(2, "big") or reply[3] & 15 or reply[6:8] == b"\0\0":
        raise OSError(f"no address of {name}")
    # The first record: the name in two bytes, then type, class, TTL, length.
    at = 12 + len(question)
    if reply[at] < 0xc0 or reply[at + 2:at + 4] != b"\0\1":
        raise OSError(f"no address of {name}")
    return socket.inet_ntoa(reply[at + 12:at + 16])


def connect(target):
    host, port = target.rsplit(":", 1)
    if not host[0].isdigit():
        host = resolve(host)
    return socket.create_connection((host, int(port)), LIMIT_S), host


def request(target):
    sock, host = connect(target)
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


def ask(stop_file, out_path, via, *targets):
    asked, worst = 0, 0.0
    with open(out_path, "w", encoding="utf-8", buffering=1) as out:
        while not os.path.exists(stop_file):
            for target in targets:
                service, where = target.split("=")
                begin = time.time()
                asked += 1
                try:
                    request(where)
                    worst = max(worst, time.time() - begin)
                except OSError as trouble:
                    out.write(f"{begin:.3f} {time.time():.3f} {via} {service} {where} {trouble!r}\n")
                time.sleep(PAUSE_S)
            out.write(f"asked {asked} {worst:.3f}\n")
        out.write(f"ended {asked} {worst:.3f}\n")


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
    {"ask": ask, "judge": judge, "fetch": fetch}[sys.argv[1]](*sys.argv[2:])
