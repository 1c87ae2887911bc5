"""The architecture as a test: which file may import which, and what every file must have.

The checker reads the source (AST) and imports nothing. ``LEVELS`` is the one place that says where a file stands; a new top-level
file or folder of the package is entered there. The second half of this file tests the checker itself on made-up bad packages.
"""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import blemish

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "blemish"

LEVELS = {
    **dict.fromkeys(("types", "configuration"), 0),
    "functional": 0.5,  # pure, and may speak in the package's types
    "networks": 1,
    **dict.fromkeys(("losses", "data"), 2),
    **dict.fromkeys(("degradations", "priors", "metrics"), 3),
    "restorers": 4,
    "artefacts": 4.5,  # loads any degradation, prior and restorer
    "systems": 5,
    **dict.fromkeys(("training", "photos", "evaluation"), 6),
    **dict.fromkeys(("recipes", "hub", "export"), 7),
    "runs": 7.5,  # a run's folder: started from a recipe, read back by the commands
    "restoration": 7.6,  # an estimate, then a run
    "bench": 7.7,  # many runs
    "foreign": 7.8,  # files that other programs wrote
    "commands": 8,
    "options": 8.5,
    "dispatch": 8.5,
    "picture_verbs": 8.7,
    **dict.fromkeys(("cli", "webui"), 9),
    "__main__": 10,
}
"""The level of each top-level file or folder: it imports from lower levels and from itself."""

DYNAMIC = ("__init__", "dispatch", "commands.doctor")
"""The files that may import by name at run time: lazy public names, lazy verbs, and looking at other packages."""

LONGEST_FILE = 600
ALONE = {"metrics.classes": "torchmetrics"}
"""Files that are shells over a heavy library: they import it at module level, and nobody imports them."""

UNPICKLERS = ("data.cifar",)
"""The files that may build on Python's reader of pickles, with a list of stand-ins for all that a pickle may name."""

PLOTTING = ("matplotlib", "seaborn", "plotly", "bokeh", "pandas", "cv2", "timm", "torch_fidelity")


@dataclass(frozen=True)
class Import:
    """One import of a module of the package (``target``, dotted from the package) or of another library."""

    target: str
    line: int
    internal: bool
    relative: bool
    nested: bool  # inside a function
    typing_only: bool


@dataclass(frozen=True)
class Module:
    name: str  # dotted from the package: "degradations.blur", "degradations.__init__"
    tree: ast.Module
    lines: int
    imports: tuple[Import, ...]

    @property
    def top(self) -> str:
        return self.name.split(".")[0]


@functools.cache
def read_package(folder: Path) -> dict[str, Module]:
    paths = {
        ".".join(path.relative_to(folder).with_suffix("").parts): path
        for path in sorted(folder.rglob("*.py"))
    }
    modules = {}
    for name, path in paths.items():
        text = path.read_text()
        tree = ast.parse(text)
        imports = tuple(find_imports(tree, name, set(paths), folder.name))
        modules[name] = Module(name, tree, len(text.splitlines()), imports)
    return modules


def find_imports(tree: ast.Module, name: str, known: set[str], package: str) -> Iterator[Import]:
    nested = inside(tree, (ast.FunctionDef, ast.AsyncFunctionDef))
    typing_only = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        if not isinstance(node, (ast.Import, ast.ImportFrom)):
            continue
        for target, relative in targets_of(node, name):
            inside_package = relative or target.split(".")[0] == package
            if inside_package and not relative:
                target = target.partition(".")[2]
            if inside_package:
                target = resolve(target, known)
            yield Import(
                target,
                node.lineno,
                inside_package,
                relative,
                id(node) in nested,
                id(node) in typing_only,
            )


def targets_of(node: ast.Import | ast.ImportFrom, name: str) -> Iterator[tuple[str, bool]]:
    if isinstance(node, ast.Import):
        yield from ((alias.name, False) for alias in node.names)
        return
    prefix = ".".join(name.split(".")[: -node.level]) if node.level else ""
    base = ".".join(part for part in (prefix, node.module or "") if part)
    for alias in node.names:
        yield ".".join(part for part in (base, alias.name) if part), node.level > 0


def resolve(target: str, known: set[str]) -> str:
    """Returns the module that a dotted name lies in: a module itself, a name in a module, or a package's ``__init__``."""
    parts = target.split(".") if target else []
    for n in range(len(parts), 0 if len(parts) > 1 else -1, -1):
        for candidate in (".".join(parts[:n]), ".".join([*parts[:n], "__init__"])):
            if candidate in known:
                return candidate
    return target


def inside(tree: ast.AST, kinds: tuple[type, ...]) -> set[int]:
    return {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, kinds)
        for child in ast.walk(node)
        if child is not node
    }


# Rules: each takes the package and yields one sentence for every fault.


def upward_imports(modules: dict[str, Module]) -> Iterator[str]:
    for module in modules.values():
        if module.name == "__init__":
            if any(found.internal for found in module.imports):
                yield "__init__ imports a module of the package: public names are lazy"
            continue
        if module.top not in LEVELS:
            yield f"{module.name}: enter {module.top!r} in LEVELS"
            continue
        for found in module.imports:
            top = found.target.split(".")[0]
            if not found.internal or top in (module.top, "__init__"):
                continue
            if top not in LEVELS or LEVELS[top] >= LEVELS[module.top]:
                yield (
                    f"{module.name}:{found.line} (level {LEVELS[module.top]}) imports {found.target} "
                    f"(level {LEVELS.get(top)}): import from lower levels or the same folder"
                )


def absolute_imports(modules: dict[str, Module]) -> Iterator[str]:
    for module in modules.values():
        for found in module.imports:
            if found.internal and not found.relative:
                yield f"{module.name}:{found.line} imports {found.target} absolutely: write it relative"


def nested_imports(modules: dict[str, Module]) -> Iterator[str]:
    for module in modules.values():
        for found in module.imports:
            if found.internal and found.nested:
                yield f"{module.name}:{found.line} imports {found.target} inside a function"
        if module.name not in DYNAMIC and any(map(hides_import, ast.walk(module.tree))):
            yield f"{module.name} imports by name at run time: only {', '.join(DYNAMIC)} may"


def hides_import(node: ast.AST) -> bool:
    """Whether a call imports by a name that is not that of another library, written out."""
    if not isinstance(node, ast.Call) or not ast.unparse(node.func).endswith(
        ("import_module", "__import__")
    ):
        return False
    name = node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else "."
    return not isinstance(name, str) or name.startswith((".", "blemish"))


def heavy_imports(modules: dict[str, Module]) -> Iterator[str]:
    for module in modules.values():
        for found in module.imports:
            if found.internal or found.nested or found.typing_only:
                continue
            library = found.target.split(".")[0]
            if library in heavy_libraries() and ALONE.get(module.name) != library:
                yield f"{module.name}:{found.line} imports {found.target} at module level: import it where it is used"


def imports_of_shells(modules: dict[str, Module]) -> Iterator[str]:
    for module in modules.values():
        for found in module.imports:
            if found.internal and found.target in ALONE:
                yield f"{module.name}:{found.line} imports {found.target}, and with it {ALONE[found.target]}"


def unpickling(modules: dict[str, Module]) -> Iterator[str]:
    """Finds what may run a pickle's code: Python's readers but for the one that allows records alone, and careless loads."""
    for module in modules.values():
        for node in ast.walk(module.tree):
            name = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
            if name in ("pickle.load", "pickle.loads") or (
                name.endswith(".Unpickler") and module.name not in UNPICKLERS
            ):
                yield f"{module.name} uses {name}: nothing is unpickled"
            if not isinstance(node, ast.Call):
                continue
            function, options = ast.unparse(node.func), [*map(ast.unparse, node.keywords)]
            careless = function == "torch.load" and "weights_only=True" not in options
            if careless or "allow_pickle=True" in options:
                yield f"{module.name}:{node.lineno} lets {function} unpickle"


def cycles(modules: dict[str, Module]) -> Iterator[str]:
    edges = {
        name: sorted({i.target for i in module.imports if i.internal and i.target != name})
        for name, module in modules.items()
    }
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> Iterator[str]:
        if name in path:
            yield "cycle: " + " -> ".join([*path[path.index(name) :], name])
        elif name not in done:
            for target in edges.get(name, []):
                yield from visit(target, (*path, name))
            done.add(name)

    for name in edges:
        yield from visit(name, ())


def unfinished_files(modules: dict[str, Module]) -> Iterator[str]:
    for module in modules.values():
        if not ast.get_docstring(module.tree):
            yield f"{module.name} has no docstring"
        assigned = {
            target.id
            for node in module.tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        only_text = all(isinstance(node, ast.Expr) for node in module.tree.body)
        if "__all__" not in assigned and not only_text:
            yield f"{module.name} has no __all__"
        if module.lines > LONGEST_FILE:
            yield f"{module.name} has {module.lines} lines: cut it below {LONGEST_FILE}"


RULES = (
    upward_imports,
    absolute_imports,
    nested_imports,
    heavy_imports,
    imports_of_shells,
    unpickling,
    cycles,
    unfinished_files,
)


@functools.cache
def heavy_libraries() -> set[str]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        lint = tomllib.load(file)["tool"]["ruff"]["lint"]
    banned = lint["flake8-tidy-imports"]["banned-module-level-imports"]
    return {*banned, *PLOTTING, *ALONE.values()}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_package_obeys(rule: object) -> None:
    assert callable(rule)
    faults = list(rule(read_package(PACKAGE)))
    assert not faults, "\n".join(faults)


# The checker itself, on made-up packages.

GOOD = {
    "__init__.py": '"""Doc."""\n__all__ = []\n',
    "types.py": '"""Doc."""\n__all__ = []\n',
    "functional/__init__.py": '"""Doc."""\n',
    "functional/noise.py": '"""Doc."""\n__all__ = []\n',
    "data/__init__.py": '"""Doc."""\n',
    "data/base.py": '"""Doc."""\nfrom ..functional.noise import f\nfrom ..functional import noise\n__all__ = []\n',
    "data/idx.py": '"""Doc."""\nfrom .base import f\n__all__ = []\n',
}

BAD = {
    "upward": (upward_imports, "functional/noise.py", "from ..data.base import f"),
    "same level": (upward_imports, "data/base.py", "from ..losses import f"),
    "unknown folder": (upward_imports, "extras.py", "import math"),
    "upward for types": (
        upward_imports,
        "types.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .data import base",
    ),
    "eager root": (upward_imports, "__init__.py", "from .types import f"),
    "absolute": (absolute_imports, "data/base.py", "from blemish.functional.noise import f"),
    "absolute module": (absolute_imports, "data/base.py", "import blemish.functional.noise"),
    "nested": (nested_imports, "data/base.py", "def f():\n    from ..functional import noise"),
    "nested method": (
        nested_imports,
        "data/base.py",
        "class A:\n    def f(self):\n        from . import idx",
    ),
    "by name": (
        nested_imports,
        "data/base.py",
        "import importlib\nimportlib.import_module(f'.{x}')",
    ),
    "by name inside": (
        nested_imports,
        "data/base.py",
        "def f():\n    import_module('blemish.cli')",
    ),
    "heavy": (heavy_imports, "data/base.py", "import torchvision"),
    "heavy part": (heavy_imports, "data/base.py", "from scipy.stats import norm"),
    "plotting": (heavy_imports, "data/base.py", "import matplotlib.pyplot as plt"),
    "shell over another": (heavy_imports, "metrics/classes.py", "import scipy"),
    "another over torchmetrics": (heavy_imports, "data/base.py", "import torchmetrics"),
    "shell imported": (imports_of_shells, "systems/base.py", "from ..metrics import classes"),
    "name of a shell": (imports_of_shells, "systems/base.py", "from ..metrics.classes import PSNR"),
    "heavy in a class": (heavy_imports, "data/base.py", "class A:\n    import lightning"),
    "unpickled": (unpickling, "data/base.py", "import pickle\npickle.load(f)"),
    "reader": (unpickling, "data/base.py", "import pickle\nclass A(pickle.Unpickler): ..."),
    "careless torch": (unpickling, "data/base.py", "import torch\ntorch.load(f)"),
    "trusting torch": (
        unpickling,
        "data/base.py",
        "import torch\ntorch.load(f, weights_only=False)",
    ),
    "careless numpy": (
        unpickling,
        "data/base.py",
        "import numpy as np\nnp.load(f, allow_pickle=True)",
    ),
    "cycle of two": (cycles, "data/base.py", "from .idx import f"),
    "cycle by package": (cycles, "data/__init__.py", "from .base import f\nfrom .other import f"),
    "no docstring": (unfinished_files, "data/base.py", None),
    "no list of names": (unfinished_files, "data/new.py", "def f(): ..."),
    "too long": (unfinished_files, "data/base.py", "\n" * LONGEST_FILE),
}

OTHER = {
    "metrics/classes.py": '"""Doc."""\nimport torchmetrics\n__all__ = []\n',
    "data/other.py": '"""Doc."""\nfrom . import something\n__all__ = []\n',
    "losses/__init__.py": '"""Doc."""\n',
}


def make_package(root: Path, files: dict[str, str]) -> Path:
    package = root / "blemish"
    for name, text in files.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return package


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_checker_accepts_a_good_package(rule: object, tmp_path: Path) -> None:
    assert callable(rule)
    assert list(rule(read_package(make_package(tmp_path, GOOD)))) == []


@pytest.mark.parametrize("fault", BAD)
def test_checker_finds(fault: str, tmp_path: Path) -> None:
    rule, name, line = BAD[fault]
    files = {**GOOD, **OTHER}
    files[name] = files.get(name, '"""Doc."""\n') + line + "\n" if line is not None else "x = 1\n"
    faults = list(rule(read_package(make_package(tmp_path, files))))
    assert faults
    assert all(Path(name).stem in text or Path(name).parent.name in text for text in faults)


def test_checker_allows_heavy_imports_where_used(tmp_path: Path) -> None:
    text = '"""Doc."""\n__all__ = []\ndef f():\n    import scipy\n    import_module("datasets")\n'
    package = make_package(tmp_path, {**GOOD, "data/base.py": text})
    assert [fault for rule in RULES for fault in rule(read_package(package))] == []


def test_checker_looks_at_every_file() -> None:
    modules = read_package(PACKAGE)
    assert len(modules) == len(list(PACKAGE.rglob("*.py"))) > 20
    assert sum(i.internal for module in modules.values() for i in module.imports) > 20
    assert {"types", "functional.random", "degradations.base"} <= set(modules)
    assert any(i.target == "functional.random" for i in modules["degradations.base"].imports)


# The repository.


def tracked_files() -> list[Path]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


FORBIDDEN = {
    r"/(?:work|root|home)/": "a path of one machine",
    r"\bissue #?\d": "an issue's number",
    r"(?<!docs/)\bdesign\.md\b|\b(?:style|contract)\.md\b|\bspecs/": "a document that is not in the project",
}


def forbidden_in(text: str) -> list[str]:
    return [
        f"{text.count(chr(10), 0, found.start()) + 1}: {found.group()!r} is {why}"
        for pattern, why in FORBIDDEN.items()
        for found in re.finditer(pattern, text)
    ]


def test_nothing_private_is_tracked() -> None:
    binary = {".png", ".jpg", ".webp", ".safetensors", ".ttf", ".gz", ".npz"}
    faults = [
        f"{path.relative_to(ROOT)}:{fault}"
        for path in tracked_files()
        if path.suffix not in binary and path != Path(__file__)
        for fault in forbidden_in(path.read_text())
    ]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    "text",
    [
        "see /work/x",
        "design.md, 2",
        "open('/root/a')",
        "as issue 12 says",
        "style.md, 3",
        "see specs/a.md",
    ],
)
def test_private_words_are_found(text: str) -> None:
    assert len(forbidden_in("a line\n" + text)) == 1
    assert forbidden_in("framework/x; the issue; a network's home; docs/design.md") == []


def test_licence_is_apache_2_everywhere() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    assert project["license"] == "Apache-2.0"
    assert project["license-files"] == ["LICENSE"]


def test_public_names_are_listed() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        assert tomllib.load(file)["project"]["version"] == blemish.__version__
    assert set(dir(blemish)) == {*blemish.__all__, "__version__"}
    assert callable(blemish.load)
    with pytest.raises(AttributeError, match=r"'lode'; it has .*load"):
        _ = blemish.lode


def modules_after(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {name.split(".")[0] for name in done.stdout.split()}


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import blemish", {"torch", "numpy", "typer"}),
        ("import blemish.__main__", {"torch", "numpy"}),
        (
            f"import blemish; {'; '.join(map('blemish.{}'.format, blemish.__all__))}",
            heavy_libraries(),
        ),
    ],
    ids=["package", "launcher", "everything"],
)
def test_imports_stay_light(statement: str, absent: set[str]) -> None:
    found = modules_after(statement)
    assert "blemish" in found
    assert found & absent == set()
