"""For dns_test.sh: a name server to forward to, and a stream of look-ups.

dns_tools.py serve ADDRESS LOG        port 53, UDP and TCP, until killed; logs a line a question
dns_tools.py stream NAME STOP-FILE    asks 127.0.0.11 more than 1,000 times a second until the file is
                                      there; prints "ASKED FAILED RATE", the last a second
"""

import os
import select
import socket
import socketserver
import struct
import sys
import threading
import time


def read_name(data, at):
    labels = []
    while data[at]:
        labels.append(data[at + 1:at + 1 + data[at]].decode("latin-1"))
        at += 1 + data[at]
    return ".".join(labels), at + 1


def answer(data, tcp, log):
    ident, flags = struct.unpack(">HH", data[:4])
    name, end = read_name(data, 12)
    question = data[12:end + 4]
    qtype = struct.unpack(">H", data[end:end + 2])[0]
    log.write(f"{'tcp' if tcp else 'udp'} {name.lower()} {qtype}\n")
    log.flush()
    first = name.lower().split(".")[0]
    addresses, rcode = [], 0
    if first == "silent":
        return None
    if first == "refused":
        rcode = 5
    elif first == "big" and qtype == 1:
        addresses = [f"198.51.100.{i}" for i in range(1, 201)]
    elif first == "one" and qtype == 1:
        addresses = ["198.51.100.7"]
    elif first not in ("one", "big"):
        rcode = 3
    truncated = len(addresses) > 20 and not tcp
    records = b""
    for address in [] if truncated else addresses:
        records += b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 60, 4) + socket.inet_aton(address)
    return struct.pack(">6H", ident, 0x8180 | (0x0200 if truncated else 0) | rcode, 1,
                       0 if truncated else len(addresses), 0, 0) + question + records


def serve(address, log_path):
    log = open(log_path, "a", encoding="utf-8")

    class Udp(socketserver.BaseRequestHandler):
        def handle(self):
            data, sock = self.request
            out = answer(data, False, log)
            if out:
                sock.sendto(out, self.client_address)

    class Tcp(socketserver.StreamRequestHandler):
        def handle(self):
            size = self.rfile.read(2)
            if len(size) == 2:
                out = answer(self.rfile.read(struct.unpack(">H", size)[0]), True, log)
                if out:
                    self.wfile.write(struct.pack(">H", len(out)) + out)

    socketserver.ThreadingTCPServer.allow_reuse_address = True
    tcp = socketserver.ThreadingTCPServer((address, 53), Tcp)
    udp = socketserver.ThreadingUDPServer((address, 53), Udp)
    threading.Thread(target=tcp.serve_forever, daemon=True).start()
    udp.serve_forever()


RATE = 1100  # a second: each has its time, whether earlier ones were answered or not
LIMIT = 5.0  # seconds: as long as glibc waits before it asks again
WINDOW = 150  # unanswered ones: of more the kernel keeps no datagrams, and a client would wait


def stream(name, stop_file):
    labels = b"".join(bytes([len(l)]) + l.encode() for l in name.split("."))
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect(("127.0.0.11", 53))
    waiting = {}  # id -> when it was asked
    asked = failed = 0
    begun = time.monotonic()
    ended = None  # when the last was asked
    while ended is None or waiting:
        now = time.monotonic()
        if ended is None and os.path.exists(stop_file):
            ended = now
        due = ended is None and len(waiting) < WINDOW and asked < (now - begun) * RATE
        try:
            if due:
                asked += 1
                waiting[asked & 0xffff] = now
                sock.send(struct.pack(">6H", asked & 0xffff, 0x0100, 1, 0, 0, 0) + labels +
                          b"\0\0\1\0\1")
            if select.select([sock], [], [], 0 if due else 0.001)[0]:
                ident, flags, _, count = struct.unpack(">4H", sock.recv(4096)[:8])
                if waiting.pop(ident, None) is None or flags & 0xf or count == 0:
                    failed += 1
        except OSError:
            failed += 1  # nobody has the port
        # In the order of asking.
        while waiting and now - next(iter(waiting.values())) > LIMIT:
            del waiting[next(iter(waiting))]
            failed += 1
    print(asked, failed, int(asked / (ended - begun)))


if __name__ == "__main__":
    {"serve": serve, "stream": stream}[sys.argv[1]](*sys.argv[2:])
