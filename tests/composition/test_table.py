"""The compatibility page is up to date and covers every tool of scikit-learn."""

import inspect

import pytest
import sklearn.model_selection
from cells import (
    PAGE,
    SECTIONS,
    TESTS,
    cells_of,
    cells_of_tools,
    forbidden,
    module_of,
    render,
)
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.utils.discovery import all_displays, all_estimators


def test_the_page_is_up_to_date():
    written = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    assert written == render(), "run `python tests/helpers/cells.py`"


def tools_of_scikit_learn():
    """Yield the names of all tools that take an estimator."""
    takes = {"estimator", "estimators", "steps", "transformers", "transformer_list"}
    for name, kind in all_estimators():
        if takes & inspect.signature(kind.__init__).parameters.keys():
            yield name
    for name in sklearn.model_selection.__all__:
        tool = getattr(sklearn.model_selection, name)
        if (
            inspect.isfunction(tool)
            and "estimator" in inspect.signature(tool).parameters
        ):
            yield name
    yield from (name for name, _ in all_displays())


# Imputes numeric columns.
NOT_FOR_TEXTS = {"IterativeImputer"}


def test_every_tool_has_a_section():
    assert "" not in cells_of_tools()


def test_every_tool_of_scikit_learn_is_on_the_page():
    entries = [entry.tool for module in SECTIONS for entry in cells_of(module)]
    entries += [entry.tool for entry in forbidden()]
    missing = {
        tool
        for tool in tools_of_scikit_learn()
        if not any(tool in entry for entry in entries)
    }
    assert missing - NOT_FOR_TEXTS == set()


@pytest.mark.parametrize("module", ["test_other_tasks"])
def test_tests_in_other_directories_exist(module):
    tests = module_of(module).ELSEWHERE
    for _, test in tests:
        files, name = test.split("::")
        found = [path.read_text(encoding="utf-8") for path in TESTS.glob(files)]
        assert any(f"def {name}(" in source for source in found), test
