#!/usr/bin/env bash
# Builds muster and runs its tests on a Debian 12 machine, as root: installs what is missing, then
#   tests/run.sh          what every change must pass
#   tests/run.sh --full   all presets and both compilers too
#   tests/run.sh --quick  unit tests and lint alone
set -euo pipefail
cd "$(dirname "$0")/.."

mode=${1:-}
case $mode in
  '' | --full | --quick) ;;
  *) echo "usage: tests/run.sh [--full|--quick]" >&2; exit 2 ;;
esac
# Which of the simulator's faults are tried (tests/sim/README.md): all, or some that change with the
# commit.
if [[ $mode == --full ]]; then
  export MUSTER_FULL=1
else
  MUSTER_ROTATION=$(git rev-parse HEAD 2>/dev/null) || MUSTER_ROTATION=$(date +%F)
  export MUSTER_ROTATION
fi
if ((EUID != 0)); then
  echo "tests/run.sh needs root: its tests make network namespaces, mounts and containers" >&2
  exit 1
fi

step() { printf '\n== %s (%ds)\n' "$1" "$SECONDS"; }

step 'packages'
deploy/packaging/install.sh run build demo test

step 'build (release)'
cmake --preset release >build.log 2>&1 || { cat build.log; exit 1; }
rm -f build.log
cmake --build --preset release

failed=()
failures=$(mktemp)
trap 'rm -f "$failures"' EXIT

# Keeps what each failed test of the last ctest run said of its failure, and its end, to be
# shown again at the end: of a long run's output often only the end is kept.
keep_failures() {
  local log=build/release/Testing/Temporary name said
  [[ -s $log/LastTestsFailed.log ]] || return 0
  while IFS=: read -r _ name; do
    said=$(awk -v name="$name" '
      / Testing: / { inside = ($3 == name) }
      inside { print }' "$log/LastTest.log")
    printf '\n-- %s\n' "$name"
    grep -E -A 5 'FAILED|: Failure$|BROKEN|Assertion|check failed|terminate called|ended by SIG|Sanitizer' <<<"$said" |
      head -n 40 || true
    printf '...\n'
    tail -n 20 <<<"$said"
  done <"$log/LastTestsFailed.log" >>"$failures"
}

run_tests() {  # label, parallel jobs
  step "tests: $1"
  ctest --test-dir build/release --output-on-failure --no-tests=error -L "^$1\$" -j "$2" || {
    failed+=("$1")
    keep_failures
  }
  [[ $1 == sim ]] || return 0
  # How many seeds there was time for, and which faults were tried.
  grep -hE '^[0-9]+ seeds|seeds that once failed|faults found|: seed [0-9]+:' \
    build/release/Testing/Temporary/LastTest.log || true
}

# Runs a script that says what failed as it goes; its end is kept, too.
run_script() {  # label, script
  local said
  said=$(mktemp)
  "$2" 2>&1 | tee "$said" || {
    failed+=("$1")
    {
      printf '\n-- %s\n' "$1"
      grep -E -A 5 'FAILED|: Failure$|check failed|terminate called|ended by SIG' "$said" |
        head -n 40 || true
      printf '...\n'
      tail -n 40 "$said"
    } >>"$failures"
  }
  rm -f "$said"
}

step 'lint'
python3 tests/lint/lint.py || failed+=(lint)
run_tests unit 2
if [[ $mode != --quick ]]; then
  # A machine of `qemu` has one processor of its own and nothing in common with another; tests of
  # `integration` mostly wait.
  run_tests sim 2
  run_tests crash 1
  run_tests integration 3
  run_tests qemu 2
  run_tests bench-smoke 1
fi
if [[ $mode != --quick ]]; then
  step 'sanitizers and fuzzers (clang, pure rooms)'
  run_script fuzz tests/fuzz/run.sh
  step 'races (thread sanitizer, the replicated log)'
  run_script race tests/race/run.sh
fi
if [[ $mode == --full ]]; then
  run_tests qemu-full 2
  for preset in debug asan; do
    step "tests: unit, preset $preset"
    cmake --preset "$preset" >/dev/null && cmake --build --preset "$preset" &&
      ctest --test-dir "build/$preset" --output-on-failure -L '^(unit|sim)$' -j 2 ||
      failed+=("$preset")
  done
fi

step 'done'
if ((${#failed[@]})); then
  cat "$failures"
  echo "failed: ${failed[*]}"
  exit 1
fi
echo 'all passed'
