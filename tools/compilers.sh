#!/bin/sh
# Builds the sdist with every compiler that is here, with and without each optional library, and tries what comes out:
# compilers.sh PYTHON SDIST FOLDER [OPTION OF PIP ...]. Warnings are errors here. No compiler, no result: that fails, too.
set -eu
python=$1 sdist=$2 folder=$3
shift 3
built=0
for pair in "gcc g++" "clang clang++"; do
    cc=${pair% *} cxx=${pair#* }
    if ! command -v "$cxx" >/dev/null; then
        echo "$cxx is not here: not tried"
        continue
    fi
    for libdeflate in ON OFF; do
        name=$cc-libdeflate-$libdeflate
        rm -rf "${folder:?}/$name"
        CC=$cc CXX=$cxx "$python" -m pip --disable-pip-version-check --quiet install "$sdist" --no-deps \
            --target "$folder/$name/package" -C build-dir="$folder/$name/build" \
            -C cmake.define.UWSERVE_WERROR=ON -C cmake.define.UWSERVE_LIBDEFLATE=$libdeflate "$@"
        PYTHONPATH="$folder/$name/package" "$python" -B "$(dirname "$0")/../tests/packaging/built.py" "$libdeflate"
        echo "$("$cxx" --version | head -n 1), libdeflate $libdeflate: works"
        built=$((built + 1))
    done
done
[ "$built" -gt 0 ] || { echo "no compiler was found" >&2; exit 1; }
