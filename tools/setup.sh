#!/bin/sh
# Make .venv what the lock files say: `tools/setup.sh serve` or `tools/setup.sh develop`.
#
# Needs no root. Returns at once when nothing changed: a stamp beside the packages holds a hash of the lock
# files, of pyproject.toml and of where this tree lies (a moved tree has a broken .venv/bin).
set -eu
cd "$(dirname "$0")/.."
what=${1:-serve}
python=.venv/bin/python

say() { printf '%s\n' "$*" >&2; }
fail() { say "setup: $*"; exit 1; }

git_is_new_enough() {
    version=$(git version 2>/dev/null) || return 1
    version=${version#git version }
    major=${version%%.*}
    rest=${version#*.}
    minor=${rest%%.*}
    [ "$major" -gt 2 ] || { [ "$major" -eq 2 ] && [ "$minor" -ge 39 ]; }
}

stamp_of() { # FILE...: one line that changes when any of them or this directory changes
    { pwd; cat "$@"; } | git hash-object --stdin
}

is_supported() { # PYTHON: is it 3.11 to 3.13?
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
}

can_make_a_venv() { "$1" -c 'import venv, ensurepip' 2>/dev/null; }

find_python() {
    found=
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 /usr/bin/python3}; do
        is_supported "$candidate" || continue
        found=$candidate
        if can_make_a_venv "$candidate"; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    [ -z "$found" ] || fail "$found cannot make a virtual environment. On Debian or Ubuntu: apt-get install python3-venv"
    fail "no Python 3.11, 3.12 or 3.13 found. Install one, or name it: make setup PYTHON=/path/to/python3.12"
}

make_venv() {
    chosen=$(find_python) || exit 1
    say "setup: making .venv with $("$chosen" -V)"
    rm -rf .venv
    "$chosen" -m venv .venv
}

install() { # LOCK [OPTION...]: exactly these versions, and only files with these hashes
    PIP_USER=0 "$python" -m pip install --quiet --disable-pip-version-check --require-hashes -r "$@"
}

git_is_new_enough || fail "git 2.39 or newer is needed; found: $(git version 2>/dev/null || echo none)"

# Two `make` at once wait for each other where flock exists (everywhere but on a Mac).
if command -v flock >/dev/null 2>&1 && [ -z "${MAINSTAY_SETUP_LOCKED:-}" ]; then
    MAINSTAY_SETUP_LOCKED=1 exec flock .gitignore "$0" "$@"
fi

serve_stamp=$(stamp_of requirements/serve.txt pyproject.toml)
develop_stamp=$(stamp_of requirements/serve.txt requirements/develop.txt pyproject.toml)
read_stamp() { cat ".venv/stamp-$1" 2>/dev/null || true; }

"$python" -c '' 2>/dev/null || make_venv
if [ "$(read_stamp serve)" != "$serve_stamp" ] || [ ! -x .venv/bin/mainstay ]; then
    "$python" -m pip --version >/dev/null 2>&1 || make_venv
    say "setup: installing what the server needs into .venv (once; about a minute)"
    install requirements/serve.txt
    "$python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
    printf '%s\n' "$serve_stamp" >.venv/stamp-serve
fi
if [ "$what" = develop ] && [ "$(read_stamp develop)" != "$develop_stamp" ]; then
    say "setup: installing what checks and tests need into .venv (once; about a minute)"
    install requirements/develop.txt --no-compile # most of it is never imported
    printf '%s\n' "$develop_stamp" >.venv/stamp-develop
fi
