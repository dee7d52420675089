"""The benchmark of the defaults draws, resumes and reports correctly."""

import sys

import numpy as np
import pandas as pd
import pytest
from conftest import make_sentences
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline

from benchmarks import quality


@pytest.fixture
def folder(tmp_path):
    """Return a folder with one data set of 60 training and 20 test texts."""
    (tmp_path / "films").mkdir()
    for split, n in (("train", 60), ("test", 20)):
        texts, labels = make_sentences(n, seed=n)
        frame = pd.DataFrame({"label": labels, "text": texts})
        frame.to_csv(tmp_path / "films" / f"{split}.tsv", sep="\t", index=False)
    return tmp_path


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["quality", *map(str, arguments)])
    quality.main()


def test_a_long_run_is_resumed_and_reported(folder, monkeypatch, capsys):
    fits = []

    def contestants(seed):
        fits.append(seed)
        model = make_pipeline(CountVectorizer(), MultinomialNB())
        return {"TransformerClassifier": model}

    monkeypatch.setattr(quality, "contestants", contestants)
    out = folder / "results.csv"
    options = ["--out", out, "--sets", "films", "--sizes", 40, 0]
    run(monkeypatch, folder, *options, "--seeds", 1, "--small-seeds", 2)
    assert fits == [0, 1, 0]
    run(monkeypatch, folder, *options, "--seeds", 1, "--small-seeds", 3)
    assert fits == [0, 1, 0, 2]
    capsys.readouterr()

    run(monkeypatch, "--report", "--out", out)
    header, _, forty, sixty = capsys.readouterr().out.strip().splitlines()
    assert [cell.strip() for cell in header.strip("|").split("|")] == [
        "name",
        "n_train",
        "TransformerClassifier",
        "seconds",
        "seeds",
    ]
    frame = pd.read_csv(out)
    small = frame[frame.n_train == 40].accuracy
    assert f"| films | 40 | {small.mean():.3f} ± {small.std():.3f} |" in forty
    assert forty.endswith("| 3 |")
    assert "| films | 60 |" in sixty


def test_a_draw_has_each_class_alike_and_depends_on_the_seed():
    texts = [str(i) for i in range(100)]
    labels = np.array(["a"] * 80 + ["b"] * 20)
    drawn = [quality.draw(texts, labels, quality.Task("x", 10, s)) for s in (0, 0, 1)]
    assert (drawn[0][1] == "b").sum() == 2
    assert drawn[0][0] == drawn[1][0] != drawn[2][0]
    everything, _ = quality.draw(texts, labels, quality.Task("x", 0, 0))
    assert everything == texts
