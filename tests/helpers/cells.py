"""Generate the scikit-learn compatibility page from the tests in tests/composition.

A test marked by :func:`cell` is an entry of the table; ``FORBIDDEN`` of
``test_forbidden.py`` lists the unsupported combinations. ``python
tests/helpers/cells.py`` writes ``docs/composition.md``.
"""

import functools
import importlib
import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "composition.md"
ESTIMATORS = ("classifier", "regressor", "tagger", "generator")
TEXTS, COLUMN, ROWS = "yes", "column", "rows"
# A tool is listed in the section of the first module that tests it.
SECTIONS = {
    "test_pipelines": "Pipelines and columns",
    "test_selection": "Model selection",
    "test_routing": "Metadata routing",
    "test_meta_classifiers": "Meta-estimators",
    "test_meta_regressors": "Meta-estimators",
    "test_displays": "Displays and inspection",
    "test_other_tasks": "",  # tests only tools of the other modules
}


@dataclass(frozen=True)
class Cell:
    """One combination of a tool and an estimator.

    Attributes
    ----------
    tool : str
        Name in scikit-learn.
    estimator : str
        One of ``ESTIMATORS``.
    shows : str
        What the test asserts, as shown in the docs.
    how : str
        How X is passed: texts, a single column of texts, or row indices.
    """

    tool: str
    estimator: str
    shows: str
    how: str = TEXTS


@dataclass(frozen=True)
class Forbidden:
    """A combination that scikit-learn does not support.

    Attributes
    ----------
    tool : str
        Name in scikit-learn, and the form of X.
    attempt : callable
        Called with an unfitted classifier, texts and labels; raises the error.
    message : str
        Part of the error message.
    why : str
        Reason and workaround.
    """

    tool: str
    attempt: Callable[[Any, Any, Any], Any]
    message: str
    why: str


def cell(
    tool: str, estimator: str = "classifier", *, shows: str, how: str = TEXTS
) -> Callable[[Any], Any]:
    """Mark a test as an entry of the table; can be applied repeatedly."""
    assert estimator in ESTIMATORS

    def mark(test: Any) -> Any:
        test.cells = [Cell(tool, estimator, shows, how), *getattr(test, "cells", [])]
        return test

    return mark


@functools.cache
def module_of(module_name: str) -> Any:
    """Import a module of ``tests/composition``, which is not a package."""
    path = TESTS / "composition" / f"{module_name}.py"
    spec = importlib.util.spec_from_file_location(f"composition_{module_name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cells_of(module_name: str) -> list[Cell]:
    """Return the cells of a test module, in the order of its tests."""
    module = module_of(module_name)
    marked = [getattr(value, "cells", []) for value in vars(module).values()]
    elsewhere = [entry for entry, _ in getattr(module, "ELSEWHERE", [])]
    return [entry for entries in marked for entry in entries] + elsewhere


def cells_of_tools() -> dict[str, dict[str, list[Cell]]]:
    """Return the cells by section and tool."""
    sections: dict[str, dict[str, list[Cell]]] = {}
    places: dict[str, dict[str, list[Cell]]] = {}
    for module, title in SECTIONS.items():
        for entry in cells_of(module):
            if entry.tool not in places:
                places[entry.tool] = sections.setdefault(title, {})
            places[entry.tool].setdefault(entry.tool, []).append(entry)
    return sections


def forbidden() -> list[Forbidden]:
    """Return the unsupported combinations."""
    return module_of("test_forbidden").FORBIDDEN


INTRODUCTION = """\
# Compatibility with scikit-learn

<!-- Generated: `python tests/helpers/cells.py` writes this page. -->

Every entry of the tables corresponds to a test in `tests/composition` that fits a tiny
model and checks the result, usually against an equivalent manual computation. The
columns of the estimators show how X is passed:

- **yes**: a list, a 1-D array or a Series of texts;
- **column**: the tool requires 2-D input, so pass a single column of texts:
  `frame[["text"]]` or `numpy.array(texts, dtype=object)[:, None]`;
- **rows**: the tool accepts only numeric input. Pass row indices,
  `numpy.arange(len(texts))[:, None]`, and look up the texts in a pipeline:
  `make_pipeline(FunctionTransformer(look_up), classifier)`, where `look_up(rows)`
  returns `[texts[i] for i in rows.ravel()]`;
- **–**: not tested, mostly because the combination is not meaningful.
"""

FORBIDDEN_INTRODUCTION = """\
## Unsupported combinations

`tests/composition/test_forbidden.py` checks that each of these raises the error message
given.
"""


def render() -> str:
    """Return the page as Markdown."""
    lines = [INTRODUCTION]
    for title, tools in cells_of_tools().items():
        lines += [f"## {title}", "", *_table(tools), ""]
    lines += [FORBIDDEN_INTRODUCTION, *_forbidden_table(), ""]
    return "\n".join(lines)


def _table(tools: dict[str, list[Cell]]) -> Iterator[str]:
    yield "| Tool | Classifier | Regressor | Tagger | Generator | What is checked |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for tool, cells in tools.items():
        marks = [
            ", ".join(dict.fromkeys(c.how for c in cells if c.estimator == name)) or "–"
            for name in ESTIMATORS
        ]
        yield f"| {' | '.join([tool, *marks, _description(cells)])} |"


def _description(cells: list[Cell]) -> str:
    """Describe what is checked, by estimator if the estimators differ."""
    shown: dict[str, list[str]] = {}
    for name in dict.fromkeys(entry.estimator for entry in cells):
        texts = dict.fromkeys(c.shows for c in cells if c.estimator == name)
        shown.setdefault(". ".join(texts), []).append(name)
    if len(shown) == 1:
        return next(iter(shown))
    return "; ".join(
        f"*{' and '.join(names)}*: {text}" for text, names in shown.items()
    )


def _forbidden_table() -> Iterator[str]:
    yield "| Combination | Error message | Reason and workaround |"
    yield "| --- | --- | --- |"
    for entry in forbidden():
        yield f"| {entry.tool} | {entry.message} | {entry.why} |"


if __name__ == "__main__":
    # Import under the module name that the tests use, so that classes are shared.
    page = importlib.import_module("cells").render()
    PAGE.write_text(page, encoding="utf-8")
