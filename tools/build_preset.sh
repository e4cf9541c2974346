#!/bin/sh
# Configures and builds a CMake preset; CMake's output is shown only when it fails: build_preset.sh PRESET
set -eu
cd "$(dirname "$0")/.."
cmake --preset "$1" >"build/$1-configure.log" || {
    cat "build/$1-configure.log"
    exit 1
}
cmake --build --preset "$1"
