#!/usr/bin/env bash
# Every test, in two processes side by side: one core compiles kernels for OpenCL, where most of the bijectors' tests wait, while the other
# runs the rest. The first half prints as it goes, the second when it is done.
set -u
run() { swift test --skip-build -c release -Xswiftc -enable-testing --no-parallel "$@"; }
second=$(mktemp)
trap 'rm -f "$second"' EXIT
run --filter '^BijectorsTests' > "$second" 2>&1 &
child=$!
run --skip '^BijectorsTests'
first_status=$?
wait "$child"
second_status=$?
cat "$second"
exit $((first_status != 0 ? first_status : second_status))
