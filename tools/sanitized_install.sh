#!/bin/sh
# Installs the extension, built with sanitizers, and the test dependencies into .venv-asan or .venv-tsan:
# sanitized_install.sh asan|tsan
set -eu
cd "$(dirname "$0")/.."
case $1 in
asan) sanitizers=address,undefined ;;
tsan) sanitizers=thread ;;
esac
python=.venv-$1/bin/python
pip() { "$python" -m pip --disable-pip-version-check --quiet "$@"; }
[ -e ".venv-$1/.made" ] || sh tools/make_environment.sh .venv/bin/python ".venv-$1"
touch ".venv-$1/.made"
pip install -r .venv/.test.txt
pip install . -C build-dir="build/$1-python" -C cmake.build-type=RelWithDebInfo -C install.strip=false \
    -C cmake.define.UWSERVE_WERROR=ON -C cmake.define.UWSERVE_SANITIZE="$sanitizers"
