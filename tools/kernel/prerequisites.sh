#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Install what building and running the guest of the kernel tests needs of Debian; nothing to do takes milliseconds.
set -eu

missing=""
need() { # need PACKAGE FILE: the package is missing if the file is not there
    [ -e "$2" ] || missing="$missing $1"
}
command_file() { command -v "$1" || echo "/nonexistent/$1"; }

PATH="$PATH:/usr/sbin:/sbin"
need qemu-system-x86 "$(command_file qemu-system-x86_64)" # the machine
need e2fsprogs "$(command_file mke2fs)"                   # its disk
need busybox-static /bin/busybox                          # its first processes

if [ -n "$missing" ]; then
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        echo "prerequisites.sh: missing, and only root on Debian can install it here:$missing" >&2
        exit 1
    fi
    echo "prerequisites.sh: installing$missing"
    sh "$(dirname "$0")/../apt.sh" "$missing"
fi
