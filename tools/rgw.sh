#!/bin/sh
# A real S3 server that checks signatures, for tests: Ceph's RADOS gateway from Debian's packages.
#
# `tools/rgw.sh fetch` downloads it once (about 66 MB) and unpacks it into .servers/rgw; nothing is installed,
# no root is needed, nothing is started. `tests/support/rgw.py` starts it.
set -eu
cd "$(dirname "$0")/.."
[ "${1:-}" = fetch ] || { echo "usage: tools/rgw.sh fetch" >&2; exit 2; }
place=.servers/rgw
[ ! -x "$place/usr/bin/radosgw" ] || exit 0
command -v apt-get >/dev/null 2>&1 && command -v dpkg >/dev/null 2>&1 || exit 1

mkdir -p .servers
scratch=$(mktemp -d "$PWD/.servers/rgw-XXXXXX")
trap 'rm -rf "$scratch"' EXIT
chmod 755 "$scratch"
mkdir "$scratch/packages" "$scratch/unpacked"
cd "$scratch/packages"
# Only what this machine lacks: libraries already installed are used from where they are.
list() { apt-get install --simulate --no-install-recommends radosgw ceph-mon ceph-osd 2>/dev/null | awk '/^Inst/ {print $2}'; }
if [ -z "$(list)" ] && [ "$(id -u)" = 0 ]; then apt-get update --quiet >&2; fi
names=$(list)
[ -n "$names" ] || exit 1
echo "servers: downloading Ceph's S3 gateway into $place (once; about 66 MB)" >&2
# shellcheck disable=SC2086 # a list of words on purpose
apt-get download --quiet $names >/dev/null 2>"$scratch/log" || { tail -n 3 "$scratch/log" >&2; exit 1; }
for package in *.deb; do dpkg --extract "$package" ../unpacked; done
cd ../../..
mv "$scratch/unpacked" "$place"
