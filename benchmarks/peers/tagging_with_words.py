"""scikit-learn alone: logistic regression on each word, its shape and neighbours."""

import time

from common import main

AROUND = (-2, -1, 0, 1, 2)


def fit(task: dict) -> dict:
    """Time the features and the fit; tag the test texts."""
    from sklearn.feature_extraction import DictVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    started = time.perf_counter()
    model = make_pipeline(DictVectorizer(), LogisticRegression(max_iter=300))
    model.fit(features(task["X"]), [tag for row in task["y"] for tag in row])
    seconds = time.perf_counter() - started
    flat = iter(model.predict(features(task["X_test"])).tolist())
    predicted = [[next(flat) for _ in words] for words in task["X_test"]]
    return {"seconds": seconds, "predicted": predicted}


def features(texts: list[list[str]]) -> list[dict]:
    """Return the features of all words of all texts."""
    return [of_word(words, i) for words in texts for i in range(len(words))]


def of_word(words: list[str], position: int) -> dict:
    """Return the features of one word."""
    found: dict = {}
    for step in AROUND:
        place = position + step
        if 0 <= place < len(words):
            word = words[place]
            found[f"{step}:{word.lower()}"] = 1
            found[f"{step}:title:{word.istitle()}"] = 1
    word = words[position]
    for length in (1, 2, 3, 4):
        found[f"starts:{word[:length].lower()}"] = 1
        found[f"ends:{word[-length:].lower()}"] = 1
    found[f"upper:{word.isupper()}"] = found[f"digit:{word.isdigit()}"] = 1
    found[f"first:{position == 0}"] = 1
    return found


if __name__ == "__main__":
    main(fit=fit)
