"""What the tests of this folder show, and the page of the docs that says so.

A test marked by :func:`cell` is an entry of the table; ``FORBIDDEN`` of
``test_forbidden.py`` lists what scikit-learn refuses. ``python -m
tests.composition.cells`` writes ``docs/composition.md``.
"""

import importlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "composition.md"
ESTIMATORS = ("classifier", "regressor", "tagger", "generator")
TEXTS, COLUMN, ROWS = "yes", "column", "rows"
# Where a tool stands on the page: with the first of these that has a test of it.
SECTIONS = {
    "test_pipelines": "Pipelines and columns",
    "test_selection": "Model selection",
    "test_routing": "Metadata routing",
    "test_meta_classifiers": "Meta-estimators",
    "test_meta_regressors": "Meta-estimators",
    "test_displays": "Displays and inspection",
    "test_other_tasks": "",  # knows no other tools
}


@dataclass(frozen=True)
class Cell:
    """One tool that one estimator works in.

    Attributes
    ----------
    tool : str
        As scikit-learn names it.
    estimator : str
        One of ``ESTIMATORS``.
    shows : str
        What the test asserts, for readers of the docs.
    how : str
        What the tool is given: the texts themselves, one column of them, or the
        numbers of the rows they stand in.
    """

    tool: str
    estimator: str
    shows: str
    how: str = TEXTS


@dataclass(frozen=True)
class Forbidden:
    """What scikit-learn refuses.

    Attributes
    ----------
    tool : str
        As scikit-learn names it, with what it was given.
    attempt : callable
        From an unfitted classifier, texts and labels to the error.
    message : str
        A part of the error's message.
    why : str
        The reason, and what to do instead.
    """

    tool: str
    attempt: Callable[[Any, Any, Any], Any]
    message: str
    why: str


def cell(
    tool: str, estimator: str = "classifier", *, shows: str, how: str = TEXTS
) -> Callable[[Any], Any]:
    """Mark a test as an entry of the table; may be repeated."""
    assert estimator in ESTIMATORS

    def mark(test: Any) -> Any:
        test.cells = [Cell(tool, estimator, shows, how), *getattr(test, "cells", [])]
        return test

    return mark


def cells_of(module_name: str) -> list[Cell]:
    """Return the cells of a module of tests, in the order of its tests."""
    module = importlib.import_module(f"composition.{module_name}")
    marked = [getattr(value, "cells", []) for value in vars(module).values()]
    elsewhere = [entry for entry, _ in getattr(module, "ELSEWHERE", [])]
    return [entry for entries in marked for entry in entries] + elsewhere


def cells_of_tools() -> dict[str, dict[str, list[Cell]]]:
    """Return the cells of each tool of each section."""
    sections: dict[str, dict[str, list[Cell]]] = {}
    places: dict[str, dict[str, list[Cell]]] = {}
    for module, title in SECTIONS.items():
        for entry in cells_of(module):
            if entry.tool not in places:
                places[entry.tool] = sections.setdefault(title, {})
            places[entry.tool].setdefault(entry.tool, []).append(entry)
    return sections


def forbidden() -> list[Forbidden]:
    """Return what scikit-learn refuses."""
    return importlib.import_module("composition.test_forbidden").FORBIDDEN


INTRODUCTION = """\
# Inside scikit-learn's tools

<!-- Generated: `python -m tests.composition.cells` writes this page. -->

Every mark on this page is a test in `tests/composition` that fits a tiny model and
checks the result, most often against the same thing done by hand. In the columns of the
estimators:

- **yes**: the tool takes texts as they are: a list, an array of one dimension or a
  Series;
- **column**: the tool asks for two dimensions, so pass one column of texts:
  `frame[["text"]]` or `numpy.array(texts, dtype=object)[:, None]`;
- **rows**: the tool takes nothing but numbers. Pass the numbers of the rows,
  `numpy.arange(len(texts))[:, None]`, and let a pipeline look the texts up:
  `make_pipeline(FunctionTransformer(look_up), classifier)`, where `look_up(rows)`
  returns `[texts[i] for i in rows.ravel()]`;
- **–**: not shown, mostly because it would make no sense.
"""

FORBIDDEN_INTRODUCTION = """\
## What scikit-learn forbids

Each attempt is made by `tests/composition/test_forbidden.py`, which expects the
message.
"""


def render() -> str:
    """Return the page."""
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
    """Say what is checked, and of which estimators where they differ."""
    shown: dict[str, list[str]] = {}
    for name in dict.fromkeys(entry.estimator for entry in cells):
        texts = dict.fromkeys(c.shows for c in cells if c.estimator == name)
        shown.setdefault(", and ".join(texts), []).append(name)
    if len(shown) == 1:
        return next(iter(shown))
    return "; ".join(
        f"*{' and '.join(names)}*: {text}" for text, names in shown.items()
    )


def _forbidden_table() -> Iterator[str]:
    yield "| Attempt | Message | Why, and what to do |"
    yield "| --- | --- | --- |"
    for entry in forbidden():
        yield f"| {entry.tool} | {entry.message} | {entry.why} |"


if __name__ == "__main__":
    sys.path.insert(0, str(TESTS))
    # By its other name, under which the tests import it.
    page = importlib.import_module("composition.cells").render()
    PAGE.write_text(page, encoding="utf-8")
