"""Compare how faithful explanations of a classifier are, at what cost.

Fine-tunes ``TransformerClassifier()`` on a sample of a data set, explains test texts by
several methods and measures comprehensiveness and sufficiency::

    python -m benchmarks.explanations path/to/data --set sst2

LIME takes part if the package lime is installed; it draws as many samples as integrated
gradients take steps, so that both make about as many forward passes.
"""

import argparse
import pathlib
import time

import numpy as np

from sktransformers import TransformerClassifier
from sktransformers.inspection import Explanation, explain, explanation_fidelity
from sktransformers.inspection._attention import attention_maps
from sktransformers.inspection._tokens import locate_tokens

from .texts import load_set, task_of

N_STEPS = 16


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="?", type=pathlib.Path)
    parser.add_argument("--set", default="sst2")
    parser.add_argument("--size", type=int, default=1000, help="training texts")
    parser.add_argument("--n-test", type=int, default=200, help="texts to explain")
    options = parser.parse_args()
    name = options.set if options.data else "docstrings"
    data = load_set(options.data, name)
    task = task_of(data, name, size=options.size, n_test=options.n_test)
    classifier = TransformerClassifier(random_state=0).fit(task["X"], task["y"])
    X = task["X_test"]
    accuracy = classifier.score(X, task["y_test"])
    print(f"{name}: {len(X)} texts, accuracy {accuracy:.3f}")
    print("| method | comprehensiveness | sufficiency | ms a text |")
    print("| --- | --- | --- | --- |")
    for method, explain_all in METHODS.items():
        start = time.perf_counter()
        explanations = explain_all(classifier, X)
        seconds = time.perf_counter() - start
        if explanations is None:
            continue
        found = explanation_fidelity(classifier, explanations)
        print(
            f"| {method} | {found['comprehensiveness']:.3f} | "
            f"{found['sufficiency']:.3f} | {1000 * seconds / len(X):.0f} |",
            flush=True,
        )


def by_gradients(classifier: TransformerClassifier, X: list[str]) -> list[Explanation]:
    """Explain by integrated gradients."""
    return explain(classifier, X, method="integrated_gradients", n_steps=N_STEPS)


def by_occlusion(classifier: TransformerClassifier, X: list[str]) -> list[Explanation]:
    """Explain by occlusion."""
    return explain(classifier, X, method="occlusion")


def at_random(classifier: TransformerClassifier, X: list[str]) -> list[Explanation]:
    """Attribute random values."""
    rng = np.random.default_rng(0)
    explanations = by_occlusion(classifier, X)
    for explanation in explanations:
        for word in explanation.words:
            word["attribution"] = float(rng.normal())
    return explanations


def by_attention(classifier: TransformerClassifier, X: list[str]) -> list[Explanation]:
    """Attribute the mean attention that words receive in the last layer."""
    explanations = by_occlusion(classifier, X)
    tokens = locate_tokens(classifier, X)
    for row, explanation in enumerate(explanations):
        received = attention_maps(classifier, X[row]).self_attention[-1].mean((0, 1))
        sums = tokens.words_of(row, explanation.words).add_up(received)
        for word, value in zip(explanation.words, sums.tolist(), strict=True):
            word["attribution"] = value
    return explanations


def by_lime(
    classifier: TransformerClassifier, X: list[str]
) -> list[Explanation] | None:
    """Explain by LIME; return None if it is not installed."""
    try:
        from lime.lime_text import IndexedString, LimeTextExplainer
    except ImportError:
        return None
    explainer = LimeTextExplainer(random_state=0, bow=False)
    explanations = by_occlusion(classifier, X)
    for explanation in explanations:
        text = explanation.texts[0]
        label = list(classifier.classes_).index(explanation.target)
        found = explainer.explain_instance(
            text,
            classifier.predict_proba,
            labels=[label],
            num_features=1000,
            num_samples=N_STEPS * 2,  # a step is a forward and a backward pass
        )
        starts = IndexedString(text, bow=False).positions
        values = {int(starts[i]): value for i, value in found.local_exp[label]}
        for word in explanation.words:
            word["attribution"] = values.get(word["start"], 0.0)
    return explanations


METHODS = {
    "integrated gradients": by_gradients,
    "occlusion": by_occlusion,
    "LIME": by_lime,
    "attention weights": by_attention,
    "random": at_random,
}


if __name__ == "__main__":
    main()
