#!/usr/bin/env bash
# Makes the virtual environment .venv with the tested versions and the package itself, editable.
#
#   TORCH   what pip installs as torch, first of all, e.g. TORCH="torch==2.12.0" (pip options may follow the name)
#   PYTHON  the interpreter to use; without it, the first of python3 and python3.14 ... python3.11 that fits
#   VENV    the folder of the environment (default: .venv)
set -euo pipefail
cd "$(dirname "$0")/.."

TORCH="${TORCH:-torch==2.13.0}"
VENV="${VENV:-.venv}"

say() { printf '[setup] %s\n' "$*"; }

fits() {
  command -v "$1" >/dev/null 2>&1 &&
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' >/dev/null 2>&1
}

find_python() {
  local candidate
  for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
    if fits "$candidate"; then
      printf '%s\n' "$candidate"
      return
    fi
  done
  printf 'error: no Python 3.11 to 3.14 found (tried: %s); install one, or name it: make setup PYTHON=/path/to/python3.11\n' \
    "${PYTHON:-python3, python3.14, python3.13, python3.12, python3.11}" >&2
  exit 1
}

if [ -x "$VENV/bin/python" ] && fits "$VENV/bin/python"; then
  say "using the environment in $VENV ($("$VENV/bin/python" --version))"
else
  python="$(find_python)"
  say "1/4 making a virtual environment in $VENV with $("$python" --version)"
  if ! "$python" -m venv --clear "$VENV"; then
    printf 'error: %s cannot make a virtual environment; on Debian and Ubuntu install python3-venv\n' "$python" >&2
    exit 1
  fi
fi

pip() { "$VENV/bin/python" -m pip --disable-pip-version-check "$@"; }

say "2/4 installing $TORCH (the largest download; some minutes on a slow line)"
quiet=--quiet
if [ -t 1 ]; then quiet=; fi # a person watching sees how the download goes on
# shellcheck disable=SC2086  # pip options may follow the name of the build
pip $quiet install $TORCH

# The build just installed is held fixed, so that nothing below can replace it.
fixed="$(mktemp)"
trap 'rm -f "$fixed"' EXIT
"$VENV/bin/python" -c 'import importlib.metadata as m; print("torch==" + m.version("torch"))' >"$fixed"

say "3/4 installing the tested versions of requirements/*.txt beside $(cat "$fixed")"
pip -qq install --constraint "$fixed" -r requirements/runtime.txt -r requirements/dev.txt

say "4/4 installing blemish itself, editable"
pip -qq install --no-deps --no-build-isolation --editable .

printf '%s\n' "$TORCH" >"$VENV/.torch" # what later calls of make go on with

say "done: $VENV/bin/blemish --help"
