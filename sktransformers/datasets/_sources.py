"""Read the docstrings of an installed package from its sources, without an import."""

import ast
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from importlib.util import find_spec
from inspect import cleandoc
from pathlib import Path

# Tests contain little prose, and vendored code belongs to other packages.
_SKIPPED_FOLDERS = set(
    "_numpy _testing _uarray _vendor _vendored array_api_compat array_api_extra cobyqa "
    "distutils externals pyprima test testing tests".split()
)
_SKIPPED_FILES = {"conftest.py", "testing_utils.py"}

# Functions that set the docstrings of C code; the docstring is an argument.
_DOCUMENTING_CALLS = {"add_newdoc", "add_docstr", "add_docstr_all"}

# Parsing dominates the run time, so files with few docstrings for their size are
# skipped. A docstring has two triple quotes.
_MAX_BYTES_PER_QUOTE = 2000

_Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Docstring:
    """A docstring and the object it documents."""

    name: str  # dotted path: numpy.linalg._linalg.svd
    text: str
    function: _Function | None = None
    owner: str = ""  # the class of a method, with a dot

    @property
    def signature(self) -> str | None:
        """Name and signature of the function; None for classes and modules."""
        if self.function is None:
            return None
        arguments, returns = ast.unparse(self.function.args), self.function.returns
        suffix = f" -> {ast.unparse(returns)}" if returns else ""
        return f"{self.owner}{self.function.name}({arguments}){suffix}"


def stable_hash(text: str) -> str:
    """Return a hash that is the same in every process and on every machine."""
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def iter_docstrings(package: str) -> Iterator[Docstring]:
    """Yield the docstrings of an installed package, file by file.

    The files are sorted by a hash of their paths, so that the first ones are a
    reproducible random sample of the package.
    """
    # find_spec of a top-level name locates the package without importing it.
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            f"load_docstrings reads the sources of {package!r}, which is not installed "
            "here as a package. Install it, or remove it from `packages`.",
            name=package,
        )
    root = Path(next(iter(spec.submodule_search_locations)))
    paths = {path.relative_to(root).as_posix(): path for path in root.rglob("*.py")}
    for relative in sorted(paths, key=stable_hash):
        *folders, filename = relative.split("/")
        if _SKIPPED_FOLDERS.isdisjoint(folders) and filename not in _SKIPPED_FILES:
            parts = [package, *folders, filename.removesuffix(".py")]
            module = ".".join(part for part in parts if part != "__init__")
            yield from _read_module(paths[relative], module)


def _read_module(path: Path, module: str) -> Iterator[Docstring]:
    source = path.read_bytes()
    if source.count(b'"""') * _MAX_BYTES_PER_QUOTE < len(source):
        return
    try:
        with warnings.catch_warnings(action="ignore"):  # about invalid escapes
            tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return  # a template, or source for another Python version
    if text := ast.get_docstring(tree):
        yield Docstring(module, text)
    yield from _visit(tree, module, owner="")


def _visit(parent: ast.AST, module: str, owner: str) -> Iterator[Docstring]:
    """Yield the docstrings below a node, except in function bodies."""
    for node in ast.iter_child_nodes(parent):
        if isinstance(node, ast.ClassDef | _Function):
            function = None if isinstance(node, ast.ClassDef) else node
            if text := ast.get_docstring(node):
                yield Docstring(f"{module}.{owner}{node.name}", text, function, owner)
            if function is None:
                yield from _visit(node, module, f"{owner}{node.name}.")
        elif isinstance(node, ast.If | ast.Try | ast.With | ast.ExceptHandler):
            yield from _visit(node, module, owner)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            yield from _documenting_call(node.value, module)


def _documenting_call(call: ast.Call, module: str) -> Iterator[Docstring]:
    called = getattr(call.func, "attr", getattr(call.func, "id", ""))
    if called not in _DOCUMENTING_CALLS or len(call.args) < 2:
        return
    # The docstring may be in a tuple or before .format(): take the longest string.
    strings = [
        node.value
        for node in ast.walk(call.args[-1])
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    if strings:
        names = [ast.unparse(argument).strip("'\"") for argument in call.args[:-1]]
        text = max(strings, key=len)
        yield Docstring(f"{module}.{names[-1]}", cleandoc(text))
