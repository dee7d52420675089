"""Short descriptions of fitted attributes, for the HTML representation."""

from collections.abc import Callable
from typing import Any


class Description:
    """A text that stands for a value; at most 30 characters, else it is cut.

    Parameters
    ----------
    text : str
        The text.
    """

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def describe_model(model: Any) -> str:
    """Return the number of parameters and the device of a model."""
    parameters = list(model.parameters())
    n = sum(parameter.numel() for parameter in parameters)
    size = f"{n / 1e6:.1f}M" if n >= 1e5 else f"{n:,}"
    return f"{size} parameters, {parameters[0].device}"


def describe_tokenizer(tokenizer: Any) -> str:
    """Return the size of the vocabulary of a tokenizer."""
    return f"{len(tokenizer):,} tokens"


def describe_history(history: list[dict[str, Any]]) -> str:
    """Return the number of epochs and the last loss."""
    if not history:
        return "no epochs"
    return f"{len(history)} epochs, loss {history[-1]['train_loss']:.3g}"


_DESCRIBE: dict[str, Callable[[Any], str]] = {
    "model_": describe_model,
    "tokenizer_": describe_tokenizer,
    "history_": describe_history,
}


def describe_attributes(table: Any) -> Any:
    """Replace long values in scikit-learn's table of fitted attributes.

    Parameters
    ----------
    table : dict of str to dict
        By name, the "value" and "type_name" of each attribute. Modified in place.

    Returns
    -------
    dict of str to dict
        The same table.
    """
    for name, describe in _DESCRIBE.items():
        if name in table:
            table[name]["value"] = Description(describe(table[name]["value"]))
    return table
