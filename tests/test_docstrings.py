"""Every public name has a numpydoc docstring and stands in the API reference."""

import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest
from numpydoc.validate import validate

API_PAGE = Path(__file__).parents[1] / "docs" / "api.rst"

CHECKS = {
    "GL01",  # the text starts at the opening quotes
    "GL02",  # the closing quotes stand alone
    "GL03",  # no double blank lines
    "GL06",  # no unknown section
    "GL07",  # sections in numpydoc's order
    "GL08",  # there is a docstring
    "GL10",  # directives have two colons
    "SS01",  # there is a summary
    "SS02",  # it starts with a capital letter
    "SS03",  # it ends with a period
    "PR01",  # all parameters are documented
    "PR02",  # and no others
    "PR03",  # in the order of the signature
    "PR04",  # with a type
    "PR05",
    "PR07",  # and a description
    "PR10",
    "RT01",  # what is returned is documented
    "RT03",
    "YD01",  # what is yielded is documented
}
# Classes and functions show how they are used; methods are shown by their class.
WITH_EXAMPLE = CHECKS | {"EX01"}


def public_names(module_name: str) -> Iterator[tuple[str, object]]:
    """Yield the public classes and functions of a module and its public submodules."""
    module = importlib.import_module(module_name)
    for name in module.__all__:
        value = getattr(module, name)
        if inspect.ismodule(value):
            yield from public_names(value.__name__)
        elif inspect.isclass(value) or callable(value):
            yield f"{module_name}.{name}", value


def own_methods(cls: type) -> Iterator[str]:
    """Yield the public methods and properties that this package wrote, not a base's."""
    ours = [base for base in cls.__mro__ if is_ours(base)]
    for name in sorted({name for base in ours for name in vars(base)}):
        member = inspect.getattr_static(cls, name)
        if isinstance(member, property):
            member = member.fget
        elif not is_ours(member):
            member = getattr(cls, name, None)  # a descriptor: what it stands for
        if not name.startswith("_") and callable(member) and is_ours(member):
            yield name


def is_ours(value: object) -> bool:
    module = getattr(value, "__module__", None) or ""
    return module.split(".")[0] == "sktransformers"


def documented() -> Iterator[tuple[str, set[str]]]:
    for path, value in public_names("sktransformers"):
        is_error = inspect.isclass(value) and issubclass(value, BaseException)
        if is_error:
            yield path, CHECKS - {"PR01"}  # what builtin exceptions take
        else:
            yield path, WITH_EXAMPLE
        if inspect.isclass(value) and not is_error:
            yield from ((f"{path}.{name}", CHECKS) for name in own_methods(value))


DOCUMENTED = dict(documented())


@pytest.mark.parametrize("path", DOCUMENTED)
def test_docstring(path):
    found = [
        f"{code}: {message}"
        for code, message in validate(path)["errors"]
        if code in DOCUMENTED[path]
    ]
    assert found == []


def test_the_walk_reaches_classes_methods_and_functions():
    assert {
        "sktransformers.TransformerClassifier",
        "sktransformers.TransformerClassifier.fit",
        "sktransformers.TransformerClassifier.predict_proba",
        "sktransformers.datasets.load_docstrings",
        "sktransformers.exceptions.SktransformersError",
    } <= set(DOCUMENTED)
    assert "sktransformers.TransformerClassifier.get_params" not in DOCUMENTED
    assert "sktransformers.TransformerClassifier.set_fit_request" not in DOCUMENTED


def test_the_api_reference_names_everything_public():
    page = set(API_PAGE.read_text(encoding="utf-8").split())
    paths = [path for path, _ in public_names("sktransformers")]
    missing = {path.removeprefix("sktransformers.") for path in paths} - page
    assert missing == set()
