#!/usr/bin/env python3
"""Checks what the compiler does not: include arrows, banned calls, README files, sizes.

Errors fail the run; sizes are warnings. Run from anywhere: tests/lint/lint.py [--fix-format]
"""

import os
import re
import subprocess
import sys

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))

# Who may include whom (docs/architecture.md). A room's own folder is always allowed; the longest
# matching prefix on the left decides. "proto" stands for generated headers.
ARROWS = {
    "base": [],
    "raft/core": ["base"],
    "raft/storage": ["base", "proto", "raft/core"],
    "raft/transport": ["base", "proto", "raft/core"],
    "raft/node": ["base", "proto", "raft/core", "raft/storage", "raft/transport"],
    "scheduler": ["base", "proto"],
    "overlay": ["base", "proto"],
    "overlay/dataplane/kernel": ["base", "overlay/ipam", "overlay/balancer"],
    "overlay/dataplane/told": ["base", "proto", "overlay/ipam", "overlay/dataplane/node_network.h"],
    "overlay/dataplane/host": ["base", "proto", "overlay/ipam", "overlay/balancer",
                               "overlay/dataplane/kernel", "overlay/dataplane/node_network.h"],
    "overlay/dataplane/esp": ["base", "proto", "overlay/ipam", "overlay/dataplane/kernel",
                              "overlay/dataplane/told", "overlay/dataplane/node_network.h"],
    "overlay/dataplane/segment": ["base", "proto", "overlay/ipam", "overlay/dataplane/kernel",
                                  "overlay/dataplane/told", "overlay/dataplane/host",
                                  "overlay/dataplane/esp", "overlay/dataplane/node_network.h"],
    "overlay/dataplane/container": ["base", "proto", "overlay/ipam", "overlay/dataplane/kernel",
                                    "overlay/dataplane/host", "overlay/dataplane/segment",
                                    "overlay/dataplane/node_network.h"],
    "overlay/dataplane/mesh": ["base", "proto", "overlay/ipam", "overlay/dataplane/kernel",
                               "overlay/dataplane/told", "overlay/dataplane/host",
                               "overlay/dataplane/segment", "overlay/dataplane/container"],
    "overlay/dataplane/vip": ["base", "proto", "overlay/ipam", "overlay/balancer",
                              "overlay/dataplane/kernel", "overlay/dataplane/told",
                              "overlay/dataplane/host"],
    "manager": ["base", "proto", "raft/node", "scheduler", "overlay/ipam"],
    "agent": ["base", "proto", "overlay/dataplane", "overlay/balancer", "overlay/dns"],
    "deploy": ["base", "proto", "raft", "scheduler", "overlay", "manager", "agent"],
    "tests": ["base", "proto", "raft", "scheduler", "overlay", "manager", "agent", "deploy"],
}
ROOMS = ("base", "raft", "scheduler", "overlay", "manager", "agent", "deploy", "tests")

# gRPC's headers cost seconds per file, so only adapters see them.
GRPC_ALLOWED = re.compile(
    r"^(base/security/tls/|deploy/(cli|daemon|gateway|lab)/|tests/)|/grpc/|_service\.(h|cc)$|/grpc_")

BANNED_EVERYWHERE = [
    (re.compile(r"\busing namespace\b(?! std::.*literals)"), "using namespace", r"\.h$"),
    (re.compile(r"std::random_device"), "std::random_device: take an Rng", r"^(?!base/rng)"),
    (re.compile(r"\bstd::views\b|\bstd::ranges::views\b"), "std::views: clang 14 rejects it", ""),
    (re.compile(r"\bsystem\s*\(\s*\""), "system(): use base/process.h", ""),
    (re.compile(r"\b(TODO|FIXME|XXX|HACK)\b"), "a mark of unfinished work", ""),
]
SLEEP = re.compile(r"\b(sleep_for|sleep_until|usleep|nanosleep|sleep)\s*\(")

LINES_MAX = 600
FUNCTION_LINES_MAX = 70

errors, warnings = [], []


def tracked():
    out = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, text=True,
                         capture_output=True, check=True).stdout
    return [p for p in out.splitlines() if os.path.exists(os.path.join(ROOT, p))]


def allowed_for(path):
    best = ""
    for prefix in ARROWS:
        if path.startswith(prefix + "/") and len(prefix) > len(best):
            best = prefix
    return best, ARROWS.get(best, [])


def check_includes(path, text):
    own, allowed = allowed_for(path)
    if not own:
        return
    for number, line in enumerate(text.splitlines(), 1):
        match = re.match(r'\s*#\s*include\s+["<]([^">]+)[">]', line)
        if not match:
            continue
        target = match.group(1)
        if target.startswith("grpcpp/") or target.endswith(".grpc.pb.h"):
            if not GRPC_ALLOWED.search(path):
                errors.append(f"{path}:{number}: {target}: gRPC headers belong into adapters")
            continue
        if target.startswith("muster/v1/"):
            room = "proto"
        elif target.split("/")[0] in ROOMS:
            room = target
        else:
            continue
        if room.startswith(own + "/") or room.startswith("base/"):
            continue
        if own == "base" and room != "proto":
            errors.append(f"{path}:{number}: {target}: base includes no other room")
        elif not any(room == a or room.startswith(a + "/") for a in allowed):
            errors.append(f"{path}:{number}: {target}: {own} may include only "
                          f"{', '.join(['base'] + [a for a in allowed if a != 'base'])}")


def check_tokens(path, text):
    code = re.sub(r"//[^\n]*", "", text)
    for pattern, why, where in BANNED_EVERYWHERE:
        if re.search(where, path) and pattern.search(code if "mark" not in why else text):
            line = text[: pattern.search(text).start()].count("\n") + 1 if pattern.search(text) else 0
            errors.append(f"{path}:{line}: {why}")
    if SLEEP.search(code):
        number = next((i for i, l in enumerate(text.splitlines(), 1) if SLEEP.search(l)), 0)
        errors.append(f"{path}:{number}: sleeping: wait for an event instead")


def check_sizes(path, text):
    lines = text.splitlines()
    if len(lines) > LINES_MAX:
        warnings.append(f"{path}: {len(lines)} lines (over {LINES_MAX}: two rooms?)")
    start = None
    for number, line in enumerate(lines, 1):
        # Functions of this style open at column 0 and close with a lone brace.
        if start is None and re.match(r"^[A-Za-z].*\)( const)?( noexcept)?( override)? \{$", line):
            start = number
        elif line == "}" and start is not None:
            if number - start > FUNCTION_LINES_MAX:
                warnings.append(f"{path}:{start}: a function of {number - start} lines")
            start = None
        if len(line) > 100 and "http" not in line and "R\"" not in line:
            warnings.append(f"{path}:{number}: {len(line)} columns")


def check_readmes(paths):
    rooms = {os.path.dirname(p) for p in paths
             if p.endswith((".cc", ".h")) and not p.startswith("tests/")}
    for room in sorted(rooms):
        # An adapter folder is described by its parent.
        here = room
        while here and not os.path.exists(os.path.join(ROOT, here, "README.md")):
            parent = os.path.dirname(here)
            if os.path.basename(here) not in ("grpc", "tls", "filters", "shim"):
                errors.append(f"{here}: a room without a README.md")
                break
            here = parent


def check_format(paths):
    sources = [p for p in paths if p.endswith((".cc", ".h"))]
    fix = "--fix-format" in sys.argv
    command = ["clang-format-14"] + (["-i"] if fix else ["--dry-run", "-Werror"])
    if subprocess.run(command + sources, cwd=ROOT, capture_output=True).returncode != 0:
        for path in sources:
            if subprocess.run(command + [path], cwd=ROOT, capture_output=True).returncode != 0:
                errors.append(f"{path}: not formatted (tests/lint/lint.py --fix-format)")


def main():
    paths = tracked()
    for path in paths:
        if not path.endswith((".cc", ".h")):
            continue
        with open(os.path.join(ROOT, path), encoding="utf-8") as f:
            text = f.read()
        check_includes(path, text)
        check_tokens(path, text)
        check_sizes(path, text)
    check_readmes(paths)
    check_format(paths)
    for text in warnings:
        print(f"warning: {text}")
    for text in errors:
        print(f"error: {text}")
    print(f"lint: {len(paths)} files, {len(errors)} errors, {len(warnings)} warnings")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
