#!/usr/bin/env python3
"""Reads reports of the thread sanitizer and prints those that are about muster's own code.

gRPC, OpenSSL and RocksDB come without instrumentation, and gRPC's locks are futexes of its own: the
sanitizer cannot see them, and calls everything that is handed over through them a race, first of
all memory that one thread allocates and another frees. So a data race counts when both accesses are
made by muster's code, to memory that neither is allocating or freeing: the first frame of each
stack that is not the language's library lies in this repository. Two reactions of gRPC's calls do
not count, since it runs those of one call one after another; nor does what a constructor wrote and
a reaction reads, which gRPC was given in between. Lock orders and uses after free count when they
name a frame of muster's at all.

  ours.py REPORT...     exit code 1 when there is one
"""
import re
import sys

LIBRARY = ("/usr/include/c++", "libsanitizer", "tsan_")
MEMORY = ("operator new", "operator delete", " malloc ", " free ")
REACTION = "grpc::internal::"
CONSTRUCTOR = re.compile(r"\b(\w+)::\1\(")
STACK = re.compile(r"^ {2}(?:Atomic |Previous |atomic )*(?:write|read)[^\n]*\n((?: +#\d+ [^\n]*\n?)+)",
                   re.I | re.M)


def first_own(stack):
    for frame in re.findall(r"#\d+ (.*)", stack):
        if not any(word in frame for word in LIBRARY):
            return frame
    return ""


def is_ours(report, root):
    def own(frame):
        return root in frame and "/generated/" not in frame

    kind = re.search(r"WARNING: ThreadSanitizer: ([^(\n]*)", report).group(1).strip()
    if not kind.startswith("data race"):
        return own(report)
    stacks = STACK.findall(report)[:2]
    if any(word in stack.split("\n")[0] for stack in stacks for word in MEMORY):
        return False
    if len(stacks) != 2 or all(REACTION in stack for stack in stacks):
        return False
    for reaction, other in (stacks, stacks[::-1]):
        if REACTION in reaction and CONSTRUCTOR.search(first_own(other)):
            return False
    return all(own(first_own(stack)) for stack in stacks)


def main():
    import os

    root = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", "..")) + "/"
    found = seen = 0
    for path in sys.argv[1:]:
        with open(path, errors="replace") as file:
            for report in file.read().split("=================="):
                if "WARNING: ThreadSanitizer" not in report:
                    continue
                seen += 1
                if is_ours(report.replace("../../", root), root):
                    found += 1
                    print(report.strip(), "\n")
    print(f"{seen} reports, {found} of them about muster's own code")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
