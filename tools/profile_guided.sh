#!/bin/sh
# The first half of a profile-guided build: profile_guided.sh PYTHON SOURCE BUILD [OPTION OF PIP ...]
#
# Builds an extension that counts in the folder BUILD and puts it to work. The second half is any build of the same SOURCE
# in the same folder with UWSERVE_PGO=USE, as the compiler finds the counts by both paths. GCC.
set -eu
python=$1 source=$2 build=$3
shift 3
rm -rf "$build"
package=$(mktemp -d)
trap 'rm -rf "$package"' EXIT
"$python" -m pip --disable-pip-version-check --quiet install "$source" --no-deps --target "$package" \
    -C build-dir="$build" -C cmake.define.UWSERVE_PGO=GENERATE "$@"
"$python" -s -S -B "$source/benchmarks/guard/workload.py" "$package" --train >/dev/null
