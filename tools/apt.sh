#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# apt.sh PACKAGES: install Debian packages, a list in one argument. Mirrors, proxies and the lock of another apt fail now
# and then for a moment, so it is tried some times before it has failed.
set -eu

get() {
    DEBIAN_FRONTEND=noninteractive apt-get -qq -o Acquire::Retries=3 -o DPkg::Lock::Timeout=120 "$@"
}

for pause in 5 20 60 0; do
    # the lists of a fresh machine are empty or old; a list that cannot be renewed may still do
    get update || echo "apt.sh: apt-get update failed, going on with the lists that are there" >&2
    # shellcheck disable=SC2086 # a list of names
    if get install -y --no-install-recommends $1 >/dev/null; then
        exit 0
    fi
    [ "$pause" -gt 0 ] || break
    echo "apt.sh: apt-get install failed, trying again in $pause s" >&2
    sleep "$pause"
done
echo "apt.sh: could not install$1" >&2
exit 1
