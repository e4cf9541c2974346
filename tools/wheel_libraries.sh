#!/bin/sh
# What a wheel is built against, in cibuildwheel's containers: AlmaLinux 9 (manylinux_2_34) and Alpine (musllinux_1_2).
# Everything installed here ends up inside the wheel, see repair_wheel.py.
set -eu
if command -v apk >/dev/null; then
    apk add --no-cache openssl-dev zlib-dev libdeflate-dev
else
    dnf install -y epel-release
    dnf install -y --enablerepo=crb openssl-devel zlib-devel libdeflate-devel
fi
