#!/bin/sh
# How many times slower than the reference this machine is, for the limits of tests
# (MUSTER_TEST_SLOW): prints "FACTOR MILLISECONDS", the factor a whole number from 3 to 20.
# The work is of what tests spend their time with: a shell's loops, sums over much data, a program that
# is started and loads its parts. REFERENCE_MS is what it took, the median of eleven runs by this script
# (nice -n -19), on a virtual machine of two processors (AMD EPYC), on which the tests' limits are known
# to be wide enough. It is no comparison with the host as it is now: what else a host does slows the
# machines on it as well, and is to count.
REFERENCE_MS=209

work() {
  i=0
  while [ $i -lt 50000 ]; do i=$((i + 1)); done
  head -c 10000000 /dev/zero | sha256sum
  /usr/bin/python3 -c 'import json'
  /usr/bin/python3 -c 'import json'
} >/dev/null

now_ms() { echo $(($(date +%s%N) / 1000000)); }

/usr/bin/python3 -c 'import json'  # its pages are there
began=$(now_ms)
work
took=$(($(now_ms) - began))
factor=$(((took + REFERENCE_MS - 1) / REFERENCE_MS))
# The host may have less time for this machine later than just now.
[ $factor -ge 3 ] || factor=3
[ $factor -le 20 ] || factor=20
echo "$factor $took"
