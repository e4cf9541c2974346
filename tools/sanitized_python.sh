#!/bin/sh
# Runs Python with the extension of `make asan` or `make tsan`: sanitized_python.sh asan|tsan [ARGUMENT ...]
#
# The interpreter is not instrumented, so the sanitizer's runtime is preloaded. The thread sanitizer of GCC 12 sometimes
# crashes in its own __tls_get_addr, and by default ends every child of a fork: both are switched off. Its reports go into
# build/tsan-report.PID, because pytest captures the output of tests that pass.
set -eu
sanitizer=$1
shift
root=$(cd "$(dirname "$0")/.." && pwd)
runtime() { "${CXX:-c++}" -print-file-name="$1"; }
case $sanitizer in
asan) options=ASAN_OPTIONS=detect_leaks=0:abort_on_error=1:quarantine_size_mb=16 ;;
tsan)
    options=TSAN_OPTIONS=halt_on_error=0:intercept_tls_get_addr=0:die_after_fork=0
    options=$options:log_path=$root/build/tsan-report:suppressions=$root/tests/tsan.supp
    ;;
esac
exec env LD_PRELOAD="$(runtime "lib$sanitizer.so") $(runtime libstdc++.so.6)" PYTHONMALLOC=malloc \
    UWSERVE_SANITIZED="$sanitizer" "$options" "$root/.venv-$sanitizer/bin/python" "$@"
