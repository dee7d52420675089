"""`entity_classification_report`: table of precision, recall and F1 of entities."""

from numbers import Integral
from typing import Any

from .._compat import Interval, validate_params
from ._entities import CONSTRAINTS
from ._matching import AVERAGES, METRICS, count_entities, score_of


@validate_params(
    {
        **CONSTRAINTS,
        "digits": [Interval(Integral, 0, None, closed="left")],
        "output_dict": ["boolean"],
    },
    prefer_skip_nested_validation=True,
)
def entity_classification_report(
    y_true: Any,
    y_pred: Any,
    *,
    mode: str = "default",
    scheme: str = "auto",
    sample_weight: Any = None,
    digits: int = 2,
    output_dict: bool = False,
    zero_division: Any = "warn",
) -> Any:
    """Build a report of precision, recall and F1 of each entity type.

    See :func:`entity_f1_score` for the definition of a correct entity.

    Parameters
    ----------
    y_true : sequence of sequences of str, of shape (n_texts,)
        The true tags: one list per text, one tag per word.
    y_pred : sequence of sequences of str, of shape (n_texts,)
        The predicted tags.
    mode : {"default", "strict"}, default="default"
        "strict" ignores entities whose tags are not valid in the scheme.
    scheme : {"auto", "plain", "IO", "IOB1", "BIO", "BIOES", "BILOU"}, default="auto"
        Tagging scheme; "auto" infers it from the tags.
    sample_weight : array-like of shape (n_texts,), default=None
        Sample weights, applied to the entities of each text. None: equal weights.
    digits : int, default=2
        Number of decimal places in the text report.
    output_dict : bool, default=False
        Return a dict instead of the text.
    zero_division : {"warn", 0, 1}, default="warn"
        Value of 0 divided by 0. "warn" is 0 with a warning.

    Returns
    -------
    str or dict
        Report with one row per entity type that occurs, sorted by name, and one per
        average. The dict maps row names to dicts with the keys "precision", "recall",
        "f1-score" and "support", the number of true entities.

    Raises
    ------
    ValueError
        As in :func:`entity_f1_score`.

    Warns
    -----
    UndefinedMetricWarning
        If a score is 0 divided by 0 and `zero_division` is "warn".

    See Also
    --------
    entity_f1_score : A single score; details of the parameters.
    sklearn.metrics.classification_report : Report for class labels.

    Examples
    --------
    >>> from sktransformers.metrics import entity_classification_report
    >>> y_true = [["B-PER", "I-PER", "O"], ["B-LOC", "O"]]
    >>> y_pred = [["B-PER", "I-PER", "O"], ["B-PER", "B-LOC"]]
    >>> print(entity_classification_report(y_true, y_pred))
                  precision    recall  f1-score   support
    <BLANKLINE>
             LOC       0.00      0.00      0.00         1
             PER       0.50      1.00      0.67         1
    <BLANKLINE>
       micro avg       0.33      0.50      0.40         2
       macro avg       0.25      0.50      0.33         2
    weighted avg       0.25      0.50      0.33         2
    <BLANKLINE>
    """
    counts = count_entities(
        y_true, y_pred, mode=mode, scheme=scheme, sample_weight=sample_weight
    )
    columns = []
    for metric in METRICS:
        # Without entities, warn once, for the undefined total.
        known = counts if counts.types else counts.total()
        by_type = score_of(metric, known, None, zero_division)[: len(counts.types)]
        silent = 0 if zero_division == "warn" else zero_division
        averages = [score_of(metric, counts, name, silent) for name in AVERAGES]
        columns.append([*by_type.tolist(), *averages])
    supports = [*counts.actual.tolist(), *[counts.actual.sum().item()] * len(AVERAGES)]
    names = [*counts.types, *(f"{name} avg" for name in AVERAGES)]
    rows = {
        name: dict(zip((*METRICS, "support"), row, strict=True))
        for name, *row in zip(names, *columns, supports, strict=True)
    }
    return rows if output_dict else _to_text(rows, digits)


def _to_text(rows: dict[str, dict[str, float]], digits: int) -> str:
    width = max(map(len, rows))
    cell = max(9, digits + 2)
    lines = [
        " " * width
        + " "
        + "".join(f" {name:>{cell}}" for name in next(iter(rows.values())))
    ]
    blank_before = {0, len(rows) - len(AVERAGES)}
    for i, (name, row) in enumerate(rows.items()):
        if i in blank_before:
            lines.append("")
        cells = [
            f"{value:>{cell}}"
            if isinstance(value, int)
            else f"{value:>{cell}.{digits}f}"
            for value in row.values()
        ]
        lines.append(f"{name:>{width}}  {' '.join(cells)}")
    return "\n".join([*lines, ""])
