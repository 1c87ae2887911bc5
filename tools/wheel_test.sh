#!/usr/bin/env bash
# Builds the wheel and runs the command line from it, in a folder of its own: what users install must work, not only the checkout.
set -euo pipefail
cd "$(dirname "$0")/.."

PY="$(pwd)/${PY:-.venv/bin/python}"
target="$(mktemp -d)"
trap 'rm -rf "$target"' EXIT

"$PY" -m build --wheel --no-isolation --outdir "$target/dist" . >"$target/build.log" 2>&1 || {
  cat "$target/build.log"
  echo "error: the wheel could not be built" >&2
  exit 1
}
"$PY" -m pip --disable-pip-version-check --quiet install --no-deps --target "$target/site" "$target"/dist/*.whl
cd "$target"
PYTHONPATH="$target/site" "$PY" - "$target/site" <<'CHECK'
import importlib
import pkgutil
import sys
from pathlib import Path

import blemish

site = Path(sys.argv[1]).resolve()
assert Path(blemish.__file__).resolve().is_relative_to(site), f"{blemish.__file__} is not in the wheel"
assert (site / "blemish" / "py.typed").is_file(), "the wheel lacks py.typed"
names = [m.name for m in pkgutil.walk_packages(blemish.__path__, "blemish.") if m.name != "blemish.__main__"]
for name in names:
    importlib.import_module(name)
print(f"the wheel of blemish {blemish.__version__} imports: {len(names)} modules")
CHECK
PYTHONPATH="$target/site" "$PY" -m blemish --help >/dev/null
