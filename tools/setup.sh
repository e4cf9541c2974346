#!/bin/sh
# `make setup`: installs the programs that tests, fuzzers and the instruction guard use, with Debian's apt-get.
#
# Never fails: without a program the tests that need it are skipped, and say so. RUNLEVEL=1 keeps services from starting.
set -eu
PATH="$PATH:/usr/sbin:/sbin"
missing=
need() { command -v "$1" >/dev/null || missing="$missing $2"; }
need chromium chromium
need chromedriver chromium-driver
need nginx nginx-light
need caddy caddy
need haproxy haproxy
need valgrind valgrind
need clang++ clang
# Clang's sanitizers and libFuzzer, which Debian has in a package of their own.
[ -e "$(clang++ -print-runtime-dir 2>/dev/null)/libclang_rt.fuzzer-$(uname -m).a" ] || missing="$missing libclang-rt-dev"
if [ -z "$missing" ]; then
    echo "setup: all programs are installed"
elif [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "setup: only root on Debian can install what is missing:$missing"
else
    export RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive
    apt-get update -qq || echo "setup: the lists of packages could not be updated"
    for package in $missing; do
        echo "setup: installing $package"
        apt-get install -y -qq --no-install-recommends "$package" >/dev/null ||
            echo "setup: $package could not be installed: tests that need it will be skipped"
    done
fi
