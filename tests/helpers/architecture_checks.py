"""Check what every architecture must do as a classifier, regressor or tagger."""

import copy
import pickle
import random
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from architectures import AUTO_CLASSES, save_model
from tiny_models import NEGATIVE, POSITIVE, VOCABULARY
from torch.nn import functional

import sktransformers
from sktransformers._models.files import quiet

LABELS = ["pos", "neg"]  # not in the order of the classes
TAGS = ["NEG", "POS", "O"]
# Of the largest number. Recurrent sums round more than attention.
TOLERANCE = {"zamba": 1e-4, "qwen3_5_text": 1e-4}


def make_texts(n: int = 12, seed: int = 0) -> tuple[list[str], list[str]]:
    """Return texts of 1 to 45 words, and labels."""
    rng = random.Random(seed)
    lengths = [1, 12, 2, 45, 30, *(rng.randint(1, 12) for _ in range(n))][:n]
    texts = [" ".join(rng.choices(VOCABULARY, k=k)) for k in lengths]
    return texts, [LABELS[i % 2] for i in range(n)]


def make_tagged(n: int = 12) -> tuple[list[list[str]], list[list[str]]]:
    """Return words and their tags."""
    types = {**dict.fromkeys(POSITIVE, "POS"), **dict.fromkeys(NEGATIVE, "NEG")}
    words = [text.split() for text in make_texts(n)[0]]
    words[1][:3] = ["good", "bad", "a"]  # every tag occurs
    return words, [[types.get(word, "O") for word in row] for row in words]


def check_architecture(model_type: str, task: str, variant: str, folder: Path) -> None:
    """Run one variant of the checks on one architecture.

    Parameters
    ----------
    model_type : str
        Value of ``config.model_type``.
    task : {"SequenceClassification", "TokenClassification"}
        Mapping of transformers that the architecture is in.
    variant : str
        One of ``VARIANTS[task]``.
    folder : Path
        An empty directory.

    Raises
    ------
    CannotBuildError
        If there is no tiny model of the architecture.
    SktransformersError
        If the estimator refuses the architecture.
    AssertionError
        If predictions differ that should be equal; the message says which.
    """
    is_tagger = task == "TokenClassification"
    labels = TAGS if is_tagger else LABELS
    kind = "TransformerTagger" if is_tagger else "TransformerClassifier"
    X, y = make_tagged() if is_tagger else make_texts()
    if variant == "regressor":
        kind, labels = "TransformerRegressor", ["number"]
        y = np.linspace(-3, 5, len(y)).tolist()
    if is_tagger and variant == "new":  # other tags than the trained head's
        y = [[tag.lower() for tag in row] for row in y]
    names = {"id2label": dict(enumerate(labels)), "num_labels": len(labels)}
    names["label2id"] = {label: i for i, label in names["id2label"].items()}
    model = save_model(folder / "model", model_type, task, **names)
    checks = _Checks(TOLERANCE.get(model_type, 1e-5))
    cls = getattr(sktransformers, kind)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if variant == "trained":
            estimator = cls.from_pretrained(model, device="cpu")
        else:
            estimator = cls(model, **FAST | VARIANTS[task][variant])
            checks.random_state_is_kept(lambda: estimator.fit(X, y))
        checks.predictions_agree(estimator, X, folder / "saved")
        if variant in ("trained", "frozen"):
            order = np.argsort(labels)
            expected = [
                None if row is None else row[..., order]
                for row in expected_outputs(model, task, X)
            ]
            checks.equal("transformers", outputs(estimator, X), expected)


class _Checks:
    """Comparisons with a relative tolerance."""

    def __init__(self, tolerance: float) -> None:
        self.tolerance = tolerance

    def equal(self, what: str, found: Any, expected: Any) -> None:
        """Raise AssertionError if the numbers of a text differ."""
        for f, e in zip(found, expected, strict=True):
            if e is None:
                continue
            assert f.shape == e.shape, f"{what}: shape {f.shape}, not {e.shape}"
            assert np.isfinite(f).all(), f"{what}: not finite"
            difference = np.abs(f - e).max() / max(1, np.abs(e).max())
            assert difference < self.tolerance, f"{what}: differs by {difference:.2g}"

    def random_state_is_kept(self, act: Any) -> Any:
        """Return what ``act`` returns; check the global random generators."""
        numpy_state = np.random.get_state()[1]  # noqa: NPY002
        torch_state = torch.get_rng_state()
        result = act()
        after = np.random.get_state()[1]  # noqa: NPY002
        assert np.array_equal(after, numpy_state), "numpy's random state changed"
        assert torch.equal(torch.get_rng_state(), torch_state), "torch's changed"
        return result

    def predictions_agree(self, estimator: Any, X: Any, folder: Path) -> None:
        """Compare the predictions of texts in all circumstances."""
        together = self.random_state_is_kept(lambda: outputs(estimator, X))
        alone = [outputs(estimator, X[i : i + 1])[0] for i in range(len(X))]
        self.equal("alone", alone, together)
        self.equal("again", outputs(estimator, X), together)
        self.equal("backwards", outputs(estimator, X[::-1])[::-1], together)
        pickled = pickle.loads(pickle.dumps(estimator))
        self.equal("pickle", outputs(pickled, X), together)
        estimator.save_pretrained(folder)
        loaded = type(estimator).from_pretrained(folder)
        self.equal("load", outputs(loaded, X), together)
        vectors = estimator.transform(X)
        self.equal("transform alone", estimator.transform(X[:1]), vectors[:1])
        width = len(estimator.get_feature_names_out())
        assert vectors.shape == (len(X), width), "number of feature names"


def outputs(estimator: Any, X: Any) -> list[np.ndarray]:
    """Return the estimator's numbers for each text."""
    method = getattr(estimator, "predict_proba", estimator.predict)
    return [np.atleast_1d(row) for row in method(X)]


def expected_outputs(folder: str, task: str, X: Any) -> list[Any]:
    """Return what transformers gives for each text alone; None if it is truncated."""
    with quiet():
        model = AUTO_CLASSES[task].from_pretrained(folder).eval()
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    least = {"canine": 4, "funnel": 8}.get(model.config.model_type, 1)
    results = []
    for row in X:
        is_split = not isinstance(row, str)
        encoded = tokenizer(row, return_tensors="pt", is_split_into_words=is_split)
        n_tokens = encoded["input_ids"].shape[1]
        if n_tokens > tokenizer.model_max_length:
            results.append(None)
            continue
        padding = {"input_ids": tokenizer.pad_token_id, "attention_mask": 0}
        inputs = {
            name: functional.pad(encoded[name], (0, max(0, least - n_tokens)), value=v)
            for name, v in padding.items()
        }
        with torch.no_grad():  # a copy, as some models keep a state
            logits = copy.deepcopy(model)(**inputs).logits[0].double()
        if is_split:
            words = encoded.word_ids()
            logits = logits[[words.index(i) for i in range(len(row))]]
        results.append(logits.softmax(-1).numpy())
    return results


FAST = {
    "max_epochs": 1,
    "batch_size": 6,  # two steps
    "learning_rate": 1e-3,
    "precision": "float32",
    "device": "cpu",
    "random_state": 0,
}
_PARAMETERS: dict[str, dict[str, Any]] = {
    "trained": {},
    "head": {},
    "new": {},
    "frozen": {"max_epochs": 0},
    "top": {"trainable": 1},
    "lora": {"lora_rank": 2},
}
VARIANTS = {
    "SequenceClassification": {
        **_PARAMETERS,
        "new": {"pooling": "mean"},
        "regressor": {},
    },
    "TokenClassification": _PARAMETERS,
}
