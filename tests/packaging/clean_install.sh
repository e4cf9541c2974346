#!/bin/sh
# A wheel where no compiler and no header can be found: clean_install.sh PYTHON WHEEL
set -eu
python=$1 wheel=$2
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$python" -m venv "$folder/venv" 2>/dev/null || "$python" -m virtualenv -q "$folder/venv"
# On PATH is the environment alone; a build of anything would need more, and is not allowed.
run() { env -i HOME="$folder" LANG=C.UTF-8 PATH="$folder/venv/bin" "$folder/venv/bin/python" "$@"; }
run -m pip --quiet --disable-pip-version-check install --only-binary :all: "$wheel"
run -m pip --quiet --disable-pip-version-check install --only-binary :all: websockets trustme
run -I -m uwserve --help >"$folder/help"
run "$(dirname "$0")/smoke.py" --bundled
echo "clean install: $(basename "$wheel") works"
