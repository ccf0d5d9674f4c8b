#!/usr/bin/env bash
# Builds the log's driver and transport with the thread sanitizer and runs the tests in which they
# have real threads, disks and connections.
set -euo pipefail
cd "$(dirname "$0")/../.."

readonly tests=(muster_raft_threads_test muster_raft_transport_test)
# Megabytes cost minutes here, and gRPC loses nothing in between.
readonly left_out='-Snapshots.*:Lanes.TheLargest*:Lanes.HeartbeatsFlow*:Ends.ALinkThatGoesSilent*'

cmake --preset tsan -DMUSTER_ROOMS='base;proto;raft' >/dev/null
ninja -C build/tsan "${tests[@]}"
reports=$(mktemp -d)
trap 'rm -rf "$reports"' EXIT
for test in "${tests[@]}"; do
  echo "-- $test (tsan)"
  # What is reported is judged below; a test that fails, fails.
  TSAN_OPTIONS="halt_on_error=0 exitcode=0 second_deadlock_stack=1 log_path=$reports/$test \
suppressions=$PWD/tests/race/suppressions.txt" \
    "build/tsan/bin/$test" --gtest_brief=1 --gtest_filter="$left_out"
done
python3 tests/race/ours.py "$reports"/*
