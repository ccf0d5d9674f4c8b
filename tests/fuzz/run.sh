#!/usr/bin/env bash
# Builds the pure rooms with clang, address and undefined-behaviour sanitizers; runs their unit tests
# and every fuzzer for a fixed time from its corpus:
#   tests/fuzz/run.sh [SECONDS-PER-FUZZER]      default 10
set -euo pipefail
cd "$(dirname "$0")/../.."

readonly seconds=${1:-10}
readonly pure_tests=(muster_base_test muster_base_security_test scheduler_test
  muster_overlay_ipam_test muster_overlay_dns_test muster_agent_session_test muster_agent_images_test
  muster_deploy_compose_test muster_raft_core_test muster_raft_text_test
  muster_raft_node_test)

cmake --preset fuzz >/dev/null
targets=$(ninja -C build/fuzz -t targets all | sed -n 's/^\([a-z_]*\): phony$/\1/p')
fuzzers=$(grep '^fuzz_' <<<"$targets" || true)
[[ -n $fuzzers ]] || { echo 'no fuzzers found' >&2; exit 1; }

# Leaks are found too; conmon and friends are not involved in pure rooms.
export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
# shellcheck disable=SC2086
ninja -C build/fuzz "${pure_tests[@]}" $fuzzers
for test in "${pure_tests[@]}"; do
  echo "-- $test (asan, ubsan)"
  "build/fuzz/bin/$test" --gtest_brief=1
done
findings=$(mktemp -d)
trap 'rm -rf "$findings"' EXIT
for fuzzer in $fuzzers; do
  corpus=tests/fuzz/corpus/${fuzzer#fuzz_}
  new=$(mktemp -d -p "$findings")
  echo "-- $fuzzer, $seconds s"
  if ! "build/fuzz/bin/$fuzzer" -max_total_time="$seconds" -timeout=60 -rss_limit_mb=2048 \
    -verbosity=0 -print_funcs=0 -artifact_prefix="$findings/" "$new" $([[ -d $corpus ]] && echo "$corpus"); then
    mkdir -p build/fuzz/findings
    cp "$findings"/{crash,leak,timeout,oom}-* build/fuzz/findings/ 2>/dev/null || true
    echo "$fuzzer found something; the inputs are in build/fuzz/findings" >&2
    exit 1
  fi
done
