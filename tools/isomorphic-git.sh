#!/bin/sh
# Put isomorphic-git, a Git client in JavaScript that the client tests use, into .servers/isomorphic-git.
#
# Asks whatever registry npm is configured for. Returns at once when the wanted version is there.
set -eu
cd "$(dirname "$0")/.."
version=1.44.11
place=.servers/isomorphic-git
installed=$place/node_modules/isomorphic-git/package.json

is_there() { grep -q "\"version\": \"$version\"" "$installed" 2>/dev/null; }

if is_there; then exit 0; fi
command -v npm >/dev/null || { echo "isomorphic-git: npm is not installed (Debian: apt-get install npm)" >&2; exit 1; }
mkdir -p .servers
exec 9>"$place.lock"
flock -w 280 9 # two test workers at once would mix their files
if is_there; then exit 0; fi
rm -rf "$place.new" "$place"
mkdir -p "$place.new"
npm install --prefix "$place.new" --no-save --no-package-lock --no-audit --no-fund --ignore-scripts --loglevel=error \
    "isomorphic-git@$version" >&2
mv "$place.new" "$place" # whole or not at all
