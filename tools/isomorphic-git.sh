#!/bin/sh
# Put isomorphic-git, a Git client in JavaScript that the client tests use, into .servers/isomorphic-git.
#
# Asks whatever registry npm is configured for. Returns at once when the wanted version is there.
set -eu
cd "$(dirname "$0")/.."
version=1.44.11
place=.servers/isomorphic-git
installed=$place/node_modules/isomorphic-git/package.json

if grep -q "\"version\": \"$version\"" "$installed" 2>/dev/null; then exit 0; fi
command -v npm >/dev/null || { echo "isomorphic-git: npm is not installed (Debian: apt-get install npm)" >&2; exit 1; }
mkdir -p "$place"
npm install --prefix "$place" --no-save --no-package-lock --no-audit --no-fund --ignore-scripts --loglevel=error \
    "isomorphic-git@$version" >&2
