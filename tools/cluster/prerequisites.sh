#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Install what building a node and running the cluster tests need of Debian. Nothing to do takes milliseconds; anything
# missing is installed by apt-get, or named if that is not possible. Go itself is not installed here: Debian's is too old.
set -eu

missing=""
need() { # need PACKAGE FILE...: the package is missing if none of the files is there
    package=$1
    shift
    for file in "$@"; do
        [ -e "$file" ] && return 0
    done
    missing="$missing $package"
}
command_file() { command -v "$1" || echo "/nonexistent/$1"; }

need busybox-static /bin/busybox                   # all test images, and probes in ours
need libseccomp-dev /usr/include/seccomp.h         # runc, with seccomp
need pkg-config "$(command_file pkg-config)"       # how runc finds it
need gcc "$(command_file gcc)"                     # the first stage of runc is C
need libc6-dev /usr/include/stdio.h
need iproute2 "$(command_file ip)"                 # addresses of Services, the bridge of pods
need util-linux "$(command_file setpriv)"          # unshare, nsenter, setpriv
need mount "$(command_file mount)"

# the distribution may have a busybox that is not static
if [ -e /bin/busybox ] && command -v ldd >/dev/null && ldd /bin/busybox >/dev/null 2>&1; then
    missing="$missing busybox-static"
fi

if [ -n "$missing" ]; then
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        echo "prerequisites.sh: missing, and only root on Debian can install it here:$missing" >&2
        exit 1
    fi
    echo "prerequisites.sh: installing$missing"
    sh "$(dirname "$0")/../apt.sh" "$missing"
fi

if ! command -v go >/dev/null; then
    echo "prerequisites.sh: no \`go\` on PATH: install Go 1.26 or newer" >&2
    exit 1
fi
