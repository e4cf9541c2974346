#!/bin/sh
# Makes a virtual environment that can build the extension: make_environment.sh PYTHON FOLDER
set -eu
python=$1 folder=$2
rm -rf "$folder"
# Some systems have Python without ensurepip: there the system's pip installs pip into the environment.
"$python" -m venv "$folder" 2>/dev/null || {
    rm -rf "$folder"
    "$python" -m venv --without-pip "$folder"
    "$python" -m pip --quiet --python "$folder/bin/python" install pip
}
# The first pip with the option -C; Debian 12 has 23.0.
"$folder/bin/python" -m pip --disable-pip-version-check --quiet install "pip>=23.1"
header=$("$folder/bin/python" -c "import sysconfig; print(sysconfig.get_paths()['include'])")/Python.h
if [ ! -e "$header" ]; then
    echo "error: $header is missing: install the development files of Python (Debian: python3-dev)" >&2
    exit 1
fi
