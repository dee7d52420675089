"""`load_docstrings`: docstrings of the installed packages as text datasets."""

from collections import Counter
from collections.abc import Callable, Iterator
from functools import lru_cache
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
from sklearn.utils import Bunch

from .._compat import Interval, StrOptions, validate_params
from ._numpydoc import TAGS, iter_tagged_parameters
from ._sources import Docstring, iter_docstrings, stable_hash
from ._text import first_paragraph, is_prose_after_masking, mask_names

# Dependencies of sktransformers, so always installed.
_NUMPYDOC_PACKAGES = ("numpy", "pandas", "scipy", "sklearn")
_PACKAGES = (*_NUMPYDOC_PACKAGES, "torch", "transformers")

# Read more samples than are kept: the hash then selects among them, so that no long
# file dominates, and enough remain after texts shared by packages are dropped.
_CANDIDATES = 1.5


class _Sample(NamedTuple):
    """A sample: input, target, and the name of the documented object."""

    data: Any  # str, or a tuple of tokens
    target: Any  # str, or a tuple of tags
    source: str

    @property
    def key(self) -> str:
        """Key for the removal of duplicates: the case-folded input."""
        text = self.data if isinstance(self.data, str) else " ".join(self.data)
        return text.casefold()


class _Task(NamedTuple):
    """Definition of a task."""

    packages: tuple[str, ...]
    samples: Callable[[Docstring], Iterator[_Sample]]
    feature_name: str
    target_name: str
    description: str


def _classification_samples(doc: Docstring) -> Iterator[_Sample]:
    paragraph = first_paragraph(doc.text)
    if paragraph is not None:
        text = mask_names(paragraph)
        if is_prose_after_masking(text):
            yield _Sample(text, doc.name.partition(".")[0], doc.name)


def _tagging_samples(doc: Docstring) -> Iterator[_Sample]:
    for tokens, tags in iter_tagged_parameters(doc.text):
        yield _Sample(tokens, tags, doc.name)


def _summarization_samples(doc: Docstring) -> Iterator[_Sample]:
    summary = first_paragraph(doc.text)
    if summary is not None and doc.signature is not None:
        yield _Sample(doc.signature, summary, doc.name)


_TASKS = {
    "classification": _Task(
        _PACKAGES,
        _classification_samples,
        "text",
        "package",
        """\
Each text is the first paragraph of a docstring; its label is the package it comes
from. Markup is stripped and white space is collapsed. Names that reveal the label
(packages, their aliases, characteristic types such as DataFrame) are replaced by NAME,
using a list of words; topics, spelling and style still distinguish the packages.
Texts that occur in several packages are excluded.""",
    ),
    "tagging": _Task(
        _NUMPYDOC_PACKAGES,
        _tagging_samples,
        "tokens",
        "tags",
        """\
Each sample is the tokenized parameter line of a numpydoc docstring, `name : type,
default=value`, with the first sentence of its description. The BIO tags (NAME, TYPE,
DEFAULT) are derived from the structure of the line, not from human annotation; the
description is tagged O. Ambiguous lines are excluded.""",
    ),
    "summarization": _Task(
        _PACKAGES,
        _summarization_samples,
        "signature",
        "summary",
        """\
Each input is the signature of a function or method, its target the first paragraph
of the docstring, with markup stripped. No names are masked. The signature determines
the summary only in part, so a perfect score is not attainable.""",
    ),
}


@validate_params(
    {
        "task": [StrOptions(set(_TASKS))],
        "packages": [list, tuple, None],
        "max_per_package": [Interval(Integral, 1, None, closed="left"), None],
        "return_X_y": ["boolean"],
        "as_frame": ["boolean"],
    },
    prefer_skip_nested_validation=True,
)
def load_docstrings(
    *,
    task: str = "classification",
    packages: list[str] | tuple[str, ...] | None = None,
    max_per_package: int | None = 400,
    return_X_y: bool = False,
    as_frame: bool = False,
) -> Any:
    """Load the docstrings of the installed scientific packages as a dataset.

    The sources of the dependencies of sktransformers are read without importing them:
    real English text with real labels, without a download or files written to disk.
    The samples depend on the installed versions; for the same versions they are
    identical and in the same order. They are shuffled, so that the first n are a random
    sample. The samples are cached in memory for further calls.

    Parameters
    ----------
    task : {"classification", "tagging", "summarization"}, default="classification"
        Prediction task:

        - "classification": the first paragraph of a docstring, with names that reveal
          the label masked as ``NAME``; the target is the package it comes from.
        - "tagging": the tokens of a numpydoc parameter line and the first sentence
          of its description; the target is a BIO tag (``NAME``, ``TYPE``,
          ``DEFAULT``) for each token.
        - "summarization": the signature of a function; the target is the first
          paragraph of its docstring.

    packages : list of str or None, default=None
        Import names of the packages to read: "numpy", "pandas", "scipy", "sklearn",
        "torch" and "transformers"; for tagging only the first four, which use
        numpydoc. None: all of them.
    max_per_package : int or None, default=400
        Maximum number of samples per package. Reading more takes longer; None reads
        all samples, which takes half a minute.
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a Bunch.
    as_frame : bool, default=False
        Return pandas objects. `data` is a Series rather than a data frame of one
        column, as text vectorizers would iterate over the column names of the latter.

    Returns
    -------
    docstrings : :class:`~sklearn.utils.Bunch`
        Dictionary-like object, with the following attributes:

        data : ndarray of str objects of shape (n_samples,), list of lists, or Series
            Texts or signatures; for tagging, a list of tokens per sample.
        target : ndarray of str objects of shape (n_samples,), list of lists, or Series
            Packages or summaries; for tagging, a list of tags per sample.
        feature_names : list of str
            Name of the input: ``["text"]``, ``["tokens"]`` or ``["signature"]``.
        target_names : list of str
            Packages, tags, or ``["summary"]``.
        source : ndarray of str objects of shape (n_samples,), or Series
            Dotted name of the object that each sample documents. It begins with the
            package, so do not use it as a feature.
        frame : DataFrame of shape (n_samples, 2) or None
            Data and target as columns; only with ``as_frame=True``.
        DESCR : str
            Description of the dataset.

    (data, target) : tuple if ``return_X_y`` is True
        Data and target only.

    Raises
    ------
    InvalidParameterError
        If a parameter has an invalid type or value (a ValueError and a TypeError).
    ValueError
        If `packages` is empty or contains a package that the task does not support.
    ModuleNotFoundError
        If one of the packages is not installed.

    See Also
    --------
    sklearn.datasets.fetch_20newsgroups : Longer texts, requires a download.

    Examples
    --------
    >>> from sktransformers.datasets import load_docstrings
    >>> docstrings = load_docstrings(packages=["numpy", "pandas"], max_per_package=50)
    >>> docstrings.target_names
    ['numpy', 'pandas']
    >>> len(docstrings.data), len(docstrings.target)
    (100, 100)
    """
    chosen = _check_packages(packages, task)
    samples = _select(task, chosen, max_per_package)
    bunch = _make_bunch(task, chosen, samples, as_frame=as_frame)
    return (bunch.data, bunch.target) if return_X_y else bunch


def _check_packages(
    packages: list[str] | tuple[str, ...] | None, task: str
) -> tuple[str, ...]:
    """Validate `packages` and return them sorted, so that their order is irrelevant."""
    usable = _TASKS[task].packages
    if packages is None:
        return usable
    if not packages or any(package not in usable for package in packages):
        raise ValueError(
            f"packages must be one or several of {list(usable)} for task={task!r}, or "
            f"None for all of them. Got {packages!r} instead."
        )
    return tuple(sorted(set(packages)))


@lru_cache(maxsize=8)
def _select(
    task: str, packages: tuple[str, ...], max_per_package: int | None
) -> tuple[_Sample, ...]:
    """Read the packages and keep the samples of each with the lowest hashes."""
    pools = [_read_samples(task, package, max_per_package) for package in packages]
    # Texts shared by packages have no unique label.
    n_packages = Counter(key for pool in pools for key in pool)
    kept: list[_Sample] = []
    for pool in pools:
        unshared = sorted((k for k in pool if n_packages[k] == 1), key=stable_hash)
        kept += [pool[key] for key in unshared[:max_per_package]]
    return tuple(sorted(kept, key=lambda sample: stable_hash(sample.key)))


def _read_samples(
    task: str, package: str, max_per_package: int | None
) -> dict[str, _Sample]:
    """Return the distinct samples of a package by key, more than `max_per_package`."""
    pool: dict[str, _Sample] = {}
    for docstring in iter_docstrings(package):
        for sample in _TASKS[task].samples(docstring):
            pool.setdefault(sample.key, sample)
        if max_per_package is not None and len(pool) >= _CANDIDATES * max_per_package:
            break
    return pool


def _make_bunch(
    task: str,
    packages: tuple[str, ...],
    samples: tuple[_Sample, ...],
    *,
    as_frame: bool,
) -> Bunch:
    """Build the result with new containers, to protect the cache from changes."""
    feature_name, target_name = _TASKS[task].feature_name, _TASKS[task].target_name
    columns: list[Any] = list(zip(*samples, strict=True))
    data, target, source = columns
    if task == "tagging":
        data, target = [list(row) for row in data], [list(row) for row in target]
        target_names = list(TAGS)
    else:
        data, target = np.array(data, dtype=object), np.array(target, dtype=object)
        target_names = list(packages) if task == "classification" else [target_name]
    source = np.array(source, dtype=object)
    frame = None
    if as_frame:
        import pandas as pd  # imported lazily: only needed for as_frame=True

        frame = pd.DataFrame({feature_name: data, target_name: target})
        data, target = frame[feature_name], frame[target_name]
        source = pd.Series(source, name="source")
    return Bunch(
        data=data,
        target=target,
        feature_names=[feature_name],
        target_names=target_names,
        source=source,
        frame=frame,
        DESCR=_DESCRIPTION.format(
            task=task,
            n_samples=len(samples),
            packages=", ".join(packages),
            description=_TASKS[task].description,
        ),
    )


_DESCRIPTION = """\
Docstrings of scientific Python packages: {task}

{n_samples} samples from the installed {packages}.

{description}

The texts were written by the packages' authors, under the packages' own licences, and
are read from the installed sources. They depend on the installed versions, which should
be reported together with any results.
"""
