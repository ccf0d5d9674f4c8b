"""What goes over an interface, for encryption_test.sh.

wire_tools.py watch INTERFACE TEXT OUT
    looks for TEXT in every frame that comes or goes, until it is told to end (TERM); OUT gets "watching"
    when it has begun and "FRAMES WITH-TEXT" in the end. A text that two frames share is not found: it is
    to be sent over and over.
"""

import signal
import socket
import sys

ETH_P_ALL = 3


def watch(interface, text, out_path):
    ended = []
    signal.signal(signal.SIGTERM, lambda *_: ended.append(True))
    wanted = text.encode()
    frames = found = 0
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)) as sock, open(
            out_path, "w", encoding="utf-8", buffering=1) as out:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 20)
        sock.bind((interface, 0))
        sock.settimeout(0.2)
        out.write("watching\n")
        while not ended:
            try:
                frame = sock.recv(1 << 16)
            except socket.timeout:
                continue
            frames += 1
            found += wanted in frame
        out.write(f"{frames} {found}\n")


if __name__ == "__main__":
    if len(sys.argv) != 5 or sys.argv[1] != "watch":
        sys.exit(__doc__)
    watch(*sys.argv[2:])
