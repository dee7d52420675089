"""load_docstrings: what it returns, that it repeats itself, and what it must not do."""

import os
import re
import subprocess
import sys
from collections import Counter

import numpy as np
import pandas as pd
import pytest

from sktransformers.datasets import load_docstrings
from sktransformers.datasets._numpydoc import TAGS, iter_tagged_parameters
from sktransformers.datasets._sources import iter_docstrings
from sktransformers.datasets._text import first_paragraph, mask_names

PACKAGES = ["numpy", "pandas", "scipy", "sklearn", "torch", "transformers"]
TASKS = ["classification", "tagging", "summarization"]

# Written out here rather than imported: the test must not repeat the code's mistakes.
GIVEAWAYS = re.compile(
    r"\b(numpy|np|scipy|sp|scikit|sklearn|scikit-learn|pandas|pd|plt|torch|pytorch"
    r"|transformers|hugging ?face|huggingface_hub|ndarrays?|data ?frames?|series"
    r"|tensors?)\b",
    re.IGNORECASE,
)


@pytest.fixture(scope="module")
def docstrings():
    return load_docstrings()


@pytest.fixture(scope="module")
def tagging():
    return load_docstrings(task="tagging", packages=["sklearn"], max_per_package=200)


@pytest.fixture(scope="module")
def summarization():
    return load_docstrings(
        task="summarization", packages=["sklearn"], max_per_package=100
    )


def run_python(code, **environment):
    """Run code in a fresh interpreter and return what it printed."""
    completed = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return completed.stdout


def test_default_is_balanced_labelled_text(docstrings):
    assert docstrings.target_names == PACKAGES
    assert docstrings.feature_names == ["text"]
    assert Counter(docstrings.target) == dict.fromkeys(PACKAGES, 400)
    assert docstrings.data.shape == docstrings.target.shape == (2400,)
    assert docstrings.frame is None
    assert "2400 samples" in docstrings.DESCR
    assert {type(text) for text in docstrings.data} == {str}
    assert {type(label) for label in docstrings.target} == {str}


def test_source_names_the_package(docstrings):
    packages = [name.partition(".")[0] for name in docstrings.source]
    assert packages == list(docstrings.target)


def test_samples_come_shuffled(docstrings):
    counts = Counter(docstrings.target[:600])
    assert min(counts[package] for package in PACKAGES) > 60


def test_texts_are_one_clean_line_of_words(docstrings):
    for text in docstrings.data:
        assert text == " ".join(text.split())
        assert 8 <= len(text.split()) <= 120
        assert not re.search(r"[`{}]|:(class|func|meth|ref):|https?://", text), text


def test_no_telling_name_is_left(docstrings):
    told = [text for text in docstrings.data if GIVEAWAYS.search(text)]
    assert not told
    assert any("NAME" in text for text in docstrings.data)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Wrap torch.nn.Linear here.", "Wrap NAME here."),
        ("See pandas.read_csv.", "See NAME."),
        ("A NumPy ndarray or np.float64", "A NAME NAME or NAME"),
        ("scikit-learn, PyTorch and Hugging Face", "NAME, NAME and NAME"),
        ("is_torch_tensor, TorchScript", "NAME, NAME"),
        ("DataFrames, a data frame, a Series", "NAME, a NAME, a NAME"),
        ("the input, a snpd and spline", "the input, a snpd and spline"),
    ],
)
def test_mask_names(text, masked):
    assert mask_names(text) == masked


def test_no_text_appears_twice(docstrings):
    assert len({text.casefold() for text in docstrings.data}) == len(docstrings.data)


@pytest.mark.slow
def test_same_in_every_process_and_imports_none_of_what_it_reads():
    code = (
        "from sktransformers.datasets import load_docstrings\n"
        f"for task in {TASKS!r}:\n"
        "    print(load_docstrings(task=task, packages=['numpy', 'scipy'],"
        " max_per_package=20))\n"
        "import sys\n"
        "load_docstrings(packages=['torch', 'transformers'], max_per_package=5)\n"
        "print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    first, second = (run_python(code, PYTHONHASHSEED=seed) for seed in ("1", "2"))
    assert first == second
    assert first.splitlines()[-1] == "[]"


def test_order_of_packages_does_not_matter():
    one = load_docstrings(packages=["scipy", "numpy"], max_per_package=20)
    other = load_docstrings(packages=("numpy", "scipy", "numpy"), max_per_package=20)
    np.testing.assert_array_equal(one.data, other.data)
    assert one.target_names == other.target_names == ["numpy", "scipy"]


@pytest.mark.parametrize("task", TASKS)
def test_changes_by_the_user_do_not_reach_the_next_call(task):
    arguments = {"task": task, "packages": ["numpy"], "max_per_package": 20}
    first = load_docstrings(**arguments)
    kept = list(first.data[0])
    if task == "tagging":
        first.data[0].clear()
        first.target_names.clear()
    else:
        first.data[:] = ""
    again = load_docstrings(**arguments)
    assert list(again.data[0]) == kept
    assert again.target_names


@pytest.mark.parametrize("task", TASKS)
def test_data_and_target_alone(task):
    arguments = {"task": task, "packages": ["numpy"], "max_per_package": 20}
    X, y = load_docstrings(**arguments, return_X_y=True)
    bunch = load_docstrings(**arguments)
    assert list(X) == list(bunch.data)
    assert list(y) == list(bunch.target)


@pytest.mark.parametrize(
    ("task", "columns"),
    [
        ("classification", ["text", "package"]),
        ("tagging", ["tokens", "tags"]),
        ("summarization", ["signature", "summary"]),
    ],
)
def test_as_frame(task, columns):
    bunch = load_docstrings(
        task=task, packages=["numpy"], max_per_package=20, as_frame=True
    )
    assert list(bunch.frame.columns) == columns
    assert bunch.feature_names == columns[:1]
    for series, column in zip((bunch.data, bunch.target), columns, strict=True):
        pd.testing.assert_series_equal(series, bunch.frame[column])
    assert isinstance(bunch.source, pd.Series)


def test_tags_are_valid_bio(tagging):
    assert len(tagging.data) == len(tagging.target) == 200
    assert tagging.target_names == list(TAGS)
    for tokens, tags in zip(tagging.data, tagging.target, strict=True):
        assert len(tokens) == len(tags)
        assert all(tokens)
        assert set(tags) <= set(TAGS)
        for previous, tag in zip(["O", *tags], tags, strict=False):
            if tag.startswith("I-"):
                assert previous in {tag, f"B-{tag[2:]}"}


def test_each_parameter_has_name_type_and_description(tagging):
    for tags in tagging.target:
        assert {"B-NAME", "B-TYPE"} <= set(tags)
        assert tags[-4:] == ["O"] * 4
    assert {tag for tags in tagging.target for tag in tags} >= {"B-DEFAULT", "I-TYPE"}


def tag_line(line, description="How strongly the coefficients are drawn to zero."):
    section = f"Fit.\n\nParameters\n----------\n{line}\n    {description}\n"
    return list(iter_tagged_parameters(section))


def spans(tagged):
    """Collect the text of each label, spans of one label joined by a bar."""
    found = {}
    for token, tag in zip(*tagged, strict=True):
        if tag[0] == "B":
            found.setdefault(tag[2:], []).append(token)
        elif tag[0] == "I":
            found[tag[2:]][-1] += f" {token}"
    return {label: "|".join(texts) for label, texts in found.items()}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "alpha : float, default=1.0",
            {"NAME": "alpha", "TYPE": "float", "DEFAULT": "1.0"},
        ),
        ("x, y : int or None", {"NAME": "x|y", "TYPE": "int or None"}),
        ("axis : int, optional", {"NAME": "axis", "TYPE": "int"}),
        (
            "how : {'a', 'b'}, default 'a'",
            {"NAME": "how", "TYPE": "{ 'a' , 'b' }", "DEFAULT": "'a'"},
        ),
        (
            "r : tuple (min, max), default=(0, 1)",
            {"NAME": "r", "TYPE": "tuple ( min , max )", "DEFAULT": "( 0 , 1 )"},
        ),
        ("*args : `str`", {"NAME": "* args", "TYPE": "str"}),
    ],
)
def test_tags_follow_the_structure_of_the_line(line, expected):
    (tagged,) = tag_line(line)
    assert spans(tagged) == expected


@pytest.mark.parametrize(
    ("line", "description"),
    [
        ("alpha : float (default=1.0)", "How strongly coefficients are drawn to zero."),
        ("alpha : %(type)s", "How strongly coefficients are drawn to zero."),
        ("alpha : float, default=(1.0", "How strongly coefficients are drawn to zero."),
        ("alpha : float", "The strength, which is 1.0 by default."),
        ("alpha : float", "The strength."),
    ],
)
def test_doubtful_lines_are_left_out(line, description):
    assert tag_line(line, description) == []


def test_summarization_pairs_a_signature_with_its_summary(summarization):
    assert len(summarization.data) == len(summarization.target) == 100
    assert summarization.target_names == ["summary"]
    for signature, summary in zip(
        summarization.data, summarization.target, strict=True
    ):
        assert re.match(r"[\w.]+\(.*\)", signature)
        assert "\n" not in signature
        assert len(summary.split()) >= 8


@pytest.mark.parametrize(
    ("docstring", "expected"),
    [
        (
            "sum(a, axis=None) -> int\n\nAdd all the elements of an array at once.\n\n",
            "Add all the elements of an array at once.",
        ),
        (
            "Title\n=====\n\nUse :func:`~a.b`, ``x``\nand the `end <a>`_ **or** not.",
            "Use a.b, x and the end or not.",
        ),
        (
            "Add all the elements of an array at once.\nArgs:\n    x: The array.",
            "Add all the elements of an array at once.",
        ),
        ("Too short.\n\nThis paragraph is not the first one of them all.", None),
        ("The {klass} is to be filled in by somebody else later on.", None),
        ("x : int\n    The number of the things that are to be counted here.", None),
        ("", None),
    ],
)
def test_first_paragraph(docstring, expected):
    assert first_paragraph(docstring) == expected


@pytest.fixture
def toy_package(tmp_path, monkeypatch):
    """A package on the path, whose import would fail."""
    folder = tmp_path / "toypackage"
    (folder / "tests").mkdir(parents=True)
    (folder / "__init__.py").write_text('"""The package."""\nraise RuntimeError\n')
    (folder / "tests" / "test_it.py").write_text('"""A test."""\n')
    (folder / "broken.py").write_text('"""A template: """ {{ name }} (\n')
    (folder / "escapes.py").write_text('"""Invalid \\d escape."""\n')
    (folder / "code.py").write_text(
        "if True:\n"
        "    class Thing:\n"
        '        """A class."""\n'
        "        async def run(self, x: int = 1) -> str:\n"
        '            """Run."""\n'
        'add_newdoc("toypackage", "c_function", ("attribute", """Written in C."""))\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    return "toypackage"


def test_sources_are_read_without_import(toy_package):
    found = {
        doc.name: (doc.text, doc.signature) for doc in iter_docstrings(toy_package)
    }
    assert found == {
        "toypackage": ("The package.", None),
        "toypackage.escapes": ("Invalid \\d escape.", None),
        "toypackage.code.Thing": ("A class.", None),
        "toypackage.code.Thing.run": ("Run.", "Thing.run(self, x: int=1) -> str"),
        "toypackage.code.c_function": ("Written in C.", None),
    }


def test_missing_package_is_named():
    with pytest.raises(ModuleNotFoundError, match=r"'no_such_package'.*Install it"):
        next(iter_docstrings("no_such_package"))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"task": "translation"}, ValueError, "'task'.*Got 'translation' instead"),
        ({"packages": "numpy"}, TypeError, "'packages'.*'list'.*Got 'numpy' instead"),
        ({"packages": []}, ValueError, "one or several of .*, or None for all"),
        (
            {"packages": ["numpy", "jax"]},
            ValueError,
            r"'transformers'.*Got \['numpy', 'jax'\]",
        ),
        ({"packages": [3]}, ValueError, r"Got \[3\] instead"),
        (
            {"packages": ["torch"], "task": "tagging"},
            ValueError,
            r"'sklearn'.*task='tagging'.*Got \['torch'\]",
        ),
        ({"max_per_package": 0}, ValueError, r"'max_per_package'.*\[1, inf\)"),
        ({"max_per_package": 1.5}, ValueError, "'max_per_package'.*Got 1.5"),
        ({"return_X_y": "yes"}, ValueError, "'return_X_y'.*Got 'yes'"),
    ],
)
def test_wrong_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        load_docstrings(**arguments)
