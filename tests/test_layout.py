"""The package's layout: which module may import which, what an import loads, sizes."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import sktransformers

PACKAGE = Path(sktransformers.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))

# The parts of the package, each with the parts below it, which it may import.
# Within a part, imports are free.
BASICS = {"_compat", "_files", "_json", "_version", "_warnings", "exceptions"}
MAY_IMPORT = {
    "exceptions": set(),
    "_version": set(),
    "_warnings": set(),
    "_files": set(),
    "_json": {"exceptions"},
    "_compat": {"exceptions"},
    "_text": BASICS,
    "metrics": {"_text", *BASICS},
    "_tasks": {"_text", "metrics", *BASICS},
    "_models": {"_tasks", "_text", *BASICS},
    "_hardware": {"_models", *BASICS},
    "_inference": {"_hardware", "_models", "_tasks", "_text", *BASICS},
    "_training": {"_hardware", "_inference", "_models", "_tasks", "_text", *BASICS},
    "_persistence": {"_hardware", "_inference", "_models", "_tasks", "_text", *BASICS},
    "_estimators": {
        *("_hardware", "_inference", "_models", "_persistence", "_tasks", "_text"),
        *("_training", "metrics", *BASICS),
    },
    "_show_versions": {"_hardware", *BASICS},
    "datasets": BASICS,
    "inspection": {
        *("_estimators", "_hardware", "_inference", "_models", "_tasks", "_text"),
        *BASICS,
    },
}

# What a part knows nothing of.
MUST_NOT_USE = {
    "exceptions": {"numpy", "pandas", "sklearn", "torch", "transformers"},
    "_text": {"torch", "transformers"},
    "_tasks": {"transformers"},
    "_hardware": {"pandas", "sklearn"},
    "_inference": {"pandas", "sklearn"},
    "_models": {"pandas", "sklearn"},
    "datasets": {"torch", "transformers"},
}

# Docstrings and constructors do not count: estimators have some forty parameters, to be
# described and stored.
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60


def part_of(path: Path) -> str:
    """Return the part of the package a file belongs to: its first path component."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_modules(path: Path, tree: ast.Module) -> Iterator[str]:
    """Yield the absolute name of all that a file imports, inside functions too."""
    package = ["sktransformers", *path.relative_to(PACKAGE).parent.parts]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, node.module] if node.module else base)
            # `from . import x` names a module, `from .x import name` what is in it.
            yield from (f"{module}.{alias.name}" for alias in node.names)


def broken_imports(path: Path, source: str) -> list[str]:
    """Return the parts and libraries that a file imports and may not."""
    part = part_of(path)
    broken = []
    for name in imported_modules(path, ast.parse(source)):
        top, *rest = name.split(".")
        if top == "sktransformers":
            other = rest[0] if rest else "__init__"
            allowed = {part, *MAY_IMPORT[part]}
            if other not in allowed:
                broken.append(other)
        elif top in MUST_NOT_USE.get(part, ()):
            broken.append(top)
    return broken


@pytest.mark.parametrize(
    "path", SOURCES, ids=[path.relative_to(PACKAGE).as_posix() for path in SOURCES]
)
def test_imports_point_one_way(path):
    if path == PACKAGE / "__init__.py":
        return  # it re-exports everything
    part = part_of(path)
    assert part in MAY_IMPORT, f"give {part!r} a line in MAY_IMPORT"
    assert broken_imports(path, path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("file", "source", "expected"),
    [
        ("_models/loading.py", "from .._training.loop import train", ["_training"]),
        ("_models/loading.py", "from .. import _training", ["_training"]),
        ("_models/loading.py", "import sklearn.utils", ["sklearn"]),
        ("_models/hub.py", "def f():\n    from sklearn import base", ["sklearn"]),
        ("_text/inputs.py", "from sktransformers._models import x", ["_models"]),
        ("_text/inputs.py", "from sktransformers import __version__", ["__version__"]),
        ("_models/loading.py", "from . import hub", []),
        ("_text/inputs.py", "from .._estimators.base import x", ["_estimators"]),
        ("_text/inputs.py", "from ..exceptions import TextTypeError", []),
        ("_persistence/save.py", "from .._training import fit", ["_training"]),
        ("_estimators/base.py", "from .._training.loop import train", []),
        ("_inference/predict.py", "from .._text.encoding import x", []),
    ],
)
def test_the_import_rule_catches_what_it_should(file, source, expected):
    assert broken_imports(PACKAGE / file, source) == expected


def test_importing_the_package_loads_nothing_heavy():
    program = """
import sys
import sktransformers
heavy = {"torch", "transformers", "sklearn", "pandas"} & set(sys.modules)
assert not heavy, heavy
for name in sktransformers.__all__:
    getattr(sktransformers, name)
assert set(sktransformers.__all__) <= set(dir(sktransformers))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.parametrize("part", ["", "datasets", "exceptions", "inspection"])
def test_an_unknown_name_is_an_attribute_error(part):
    module = getattr(sktransformers, part) if part else sktransformers
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = module.no_such_name


@pytest.mark.parametrize(
    "path", SOURCES, ids=[path.relative_to(PACKAGE).as_posix() for path in SOURCES]
)
def test_files_and_functions_stay_short(path):
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source)
    in_docstrings = sum(map(docstring_lines, ast.walk(tree)))
    assert source.count("\n") - in_docstrings <= MAX_FILE_LINES
    too_long = {
        node.name: function_lines(node)
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and node.name != "__init__"
        and function_lines(node) > MAX_FUNCTION_LINES
    }
    assert too_long == {}


def function_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count a function's lines without its docstring."""
    return node.end_lineno - node.lineno + 1 - docstring_lines(node)


def docstring_lines(node: ast.AST) -> int:
    """Count the lines of a node's own docstring, if it can have one."""
    with_docstring = (ast.AsyncFunctionDef, ast.ClassDef, ast.FunctionDef, ast.Module)
    if not isinstance(node, with_docstring):
        return 0
    if ast.get_docstring(node, clean=False) is None:
        return 0
    return node.body[0].end_lineno - node.body[0].lineno + 1
