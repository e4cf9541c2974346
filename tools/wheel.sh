#!/bin/sh
# `make wheel`: makes the sdist, from it a wheel with a profile (GCC), and checks both: wheel.sh PYTHON
#
# The wheel contains libdeflate if this machine has it.
set -eu
python=$1
cd "$(dirname "$0")/.."
built=$PWD/build/dist
rm -rf dist "$built"
"$python" -m build --sdist --outdir "$built" .
mkdir "$built/source"
tar xzf "$built"/uwserve-*.tar.gz -C "$built/source" --strip-components=1
sh tools/profile_guided.sh "$python" "$built/source" "$built/build"
"$python" -m build --wheel --outdir "$built" -C build-dir="$built/build" -C cmake.define.UWSERVE_PGO=USE "$built/source"
"$python" tools/repair_wheel.py "$built"/uwserve-*.whl dist
cp "$built"/uwserve-*.tar.gz dist
"$python" -m twine check --strict dist/*
# W002: two licences with one text; W009, W010: the folder of the bundled libraries.
"$(dirname "$python")/check-wheel-contents" --ignore W002,W009,W010 dist/*.whl
sh tests/packaging/clean_install.sh "$python" dist/*.whl
