#!/bin/sh
# Random calls in each run mode, a quarter of the time for each: chaos.sh SEED SECONDS PYTHON [ARGUMENT OF PYTHON ...]
#
# A report of a sanitizer ends the run, and so does a failed check. Each run prints its last seed.
set -eu
seed=$1 seconds=$2
shift 2
tests=$(cd "$(dirname "$0")/../tests/python" && pwd)
export PYTHONPATH="$tests/support"
for mode in run start asyncio "asyncio uvloop"; do
    # shellcheck disable=SC2086  # a mode is one word or two
    "$@" -X faulthandler "$tests/programs/chaos_calls.py" "$seed" $((seconds / 4)) $mode
done
