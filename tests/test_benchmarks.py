"""The benchmarks draw, take turns, resume and report correctly."""

import copy
import importlib
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline
from tiny_models import make_sentences

from benchmarks import accuracy, quality, speed, texts
from benchmarks.contestants import WORKS
from benchmarks.running import PEERS, Contestant, measure


@pytest.fixture
def folder(tmp_path):
    """Return a folder with one data set of 60 training and 20 test texts."""
    (tmp_path / "films").mkdir()
    for split, n in (("train", 60), ("test", 20)):
        texts, labels = make_sentences(n, seed=n)
        frame = pd.DataFrame({"label": labels, "text": texts})
        frame.to_csv(tmp_path / "films" / f"{split}.tsv", sep="\t", index=False)
    return tmp_path


def run(monkeypatch, *arguments, module=quality):
    monkeypatch.setattr(sys, "argv", ["benchmark", *map(str, arguments)])
    module.main()


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


FAKE = """
import json, pathlib, sys
task = json.load(sys.stdin)
result = task["options"]["results"][task["seed"]]
if result is None:
    sys.exit("it broke")
with pathlib.Path(__file__).with_suffix(".log").open("a") as log:
    log.write(f"{task['options']['name']} {task['seed']}\\n")
print(json.dumps({"device": "cpu", "threads": 1, "versions": "none", **result}))
"""


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Return a maker of contestants whose results, one a repeat, are known."""
    script = tmp_path / "fake.py"
    script.write_text(FAKE, encoding="utf-8")
    script.with_suffix(".log").touch()
    monkeypatch.setattr(speed, "busy_share", lambda: 0.25)

    def make(name, *results):
        return Contestant(name, str(script), {"name": name, "results": results})

    make.log = lambda: script.with_suffix(".log").read_text().splitlines()
    return make


def read_table(text):
    """Return a Markdown table's cells by contestant."""
    lines = [line.strip("| ") for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.split("|")] for line in lines]
    header = cells[0]
    rows = [dict(zip(header, row, strict=False)) for row in cells[2:]]
    return {row["contestant"]: row for row in rows}


def seconds(*values, **others):
    return [{"seconds": value, **others} for value in values]


def test_contestants_take_turns_and_ratios_are_taken_within_a_repeat(
    folder, fake, monkeypatch, capsys
):
    ours = fake("sktransformers", *seconds(1, 2, 2, accuracy=0.75))
    trainer = fake("Trainer, defaults", *seconds(10, 16, 24, accuracy=0.5))
    broken = fake("broken", None, None, None)
    monkeypatch.setitem(WORKS, "fit", (ours, trainer, broken))
    out = folder / "speed.csv"
    options = [folder, "--sets", "films", "--size", 40, "--only", "fit", "--out", out]
    with pytest.raises(SystemExit, match="broken failed:\nit broke"):
        run(monkeypatch, *options, "--repeats", 2, module=speed)
    assert fake.log() == [
        "sktransformers 0",
        "Trainer, defaults 0",
        "sktransformers 1",
        "Trainer, defaults 1",
    ]
    run(monkeypatch, *options, "--contestants", "skt", "Trainer", module=speed)
    assert fake.log()[4:] == ["sktransformers 2", "Trainer, defaults 2"]

    rows = read_table(capsys.readouterr().out.split("\n\n")[-1])
    assert set(rows) == {"sktransformers", "Trainer, defaults"}
    theirs = rows["Trainer, defaults"]
    assert theirs["set"] == "films, 40"
    assert theirs["median"] == "16 s"
    assert theirs["min to max"] == "10 s to 24 s"
    assert theirs["times ours"] == "10 (8 to 12)"
    assert theirs["accuracy"].startswith("0.500")
    assert theirs["notes"] == "machine up to 25% busy before"
    assert rows["sktransformers"]["times faster than the usual way"] == "10 (8 to 12)"
    assert out.with_suffix(".png").stat().st_size > 0


def test_the_race_goes_to_the_fewest_epochs_that_reach_the_accuracy(
    folder, fake, monkeypatch, capsys
):
    def runner(epochs, *accuracies):
        results = [
            {"seconds": 1 + epochs, "accuracy": value, "epochs": epochs}
            for value in accuracies
        ]
        return fake(f"sktransformers, {epochs} epochs", *results)

    goal = fake("Trainer, defaults", *seconds(30, 30, accuracy=0.5))
    runners = runner(0, 0.5, 0.4), runner(1, 0.4, 0.6), runner(2, 0.7, 0.7)
    monkeypatch.setitem(WORKS, "race", (goal, *runners))
    options = ["--sets", "films", "--size", 40, "--only", "race", "--repeats", 2]
    out = folder / "speed.csv"
    run(monkeypatch, folder, *options, "--out", out, module=speed)
    first = read_table(capsys.readouterr().out)["sktransformers, first to reach it"]
    assert first["notes"].startswith("after 0, 1 epochs")
    assert first["times faster than the usual way"] == "22.5 (15 to 30)"


@pytest.mark.filterwarnings(  # by matplotlib 3.9, for a single bar
    "ignore:Conversion of an array:DeprecationWarning"
)
def test_predictions_are_compared_with_float32_and_rates_with_the_peak(
    folder, fake, monkeypatch, capsys
):
    exact = [[0.9, 0.1], [0.4, 0.6]]
    prepared = fake("prepared", {"probabilities": exact})
    rate = {"flops": 1e9, "precision": "bfloat16"}
    fast = {"seconds": 1, "probabilities": [[0.8, 0.2], [0.7, 0.3]], **rate}
    product = fake("matrix product, bfloat16", {"seconds": 0.5, **rate})
    monkeypatch.setattr(speed, "PREPARED", prepared)
    monkeypatch.setitem(WORKS, "predict", (fake("sktransformers, bfloat16", fast),))
    monkeypatch.setitem(WORKS, "roofline", (product,))
    options = ["--sets", "films", "--size", 40, "--repeats", 1]
    options += ["--only", "predict", "roofline", "--out", folder / "speed.csv"]
    run(monkeypatch, folder, *options, module=speed)
    rows = read_table(capsys.readouterr().out)
    notes = rows["sktransformers, bfloat16"]["notes"]
    assert "50.0% of float32's labels, probabilities within 0.3" in notes
    assert "1 GFLOP/s, 50% of bfloat16's peak" in notes
    assert rows["matrix product, bfloat16"]["set"] == "any"


def test_accuracies_are_compared_seed_by_seed(folder, fake, monkeypatch, capsys):
    def with_accuracies(name, *values):
        return fake(name, *[{"seconds": 1, "accuracy": value} for value in values])

    ours = with_accuracies("sktransformers", 0.7, 0.9)
    trainer = with_accuracies("Trainer, defaults", 0.6, 0.8)
    monkeypatch.setattr(accuracy, "CONTESTANTS", (ours, trainer))
    options = [folder, "--sets", "films", "--size", 40, "--out", folder / "a.csv"]
    run(monkeypatch, *options, "--seeds", 1, module=accuracy)
    run(monkeypatch, *options, "--seeds", 2, module=accuracy)
    assert len(fake.log()) == 4
    rows = read_table(
        capsys.readouterr().out.rpartition("| set |")[2].join(["| set |", ""])
    )
    assert rows["sktransformers"]["accuracy"] == "0.800 ± 0.100"
    assert rows["sktransformers"]["above the Trainer"] == "+0.100 ± 0.000"
    assert rows["Trainer, defaults"]["above the Trainer"] == ""


def test_a_peer_that_is_not_installed_is_left_out(tmp_path):
    script = tmp_path / "peer.py"
    script.write_text(
        f"""
import sys
sys.path.insert(0, {str(PEERS)!r})
from common import main

def fit(task):
    print("a library that talks")
    import no_such_library

main(fit=fit)
""",
        encoding="utf-8",
    )
    result = measure(Contestant("peer", str(script)), {})
    assert result == {"skipped": "No module named 'no_such_library'"}


def test_mixed_texts_share_no_paragraph(monkeypatch):
    paragraphs = [" ".join(f"w{i}x{j}" for j in range(12)) for i in range(9000)]
    labels = np.array(["numpy", "torch"] * 4500)

    def load_docstrings(**options):
        return np.array(paragraphs, dtype=object), labels

    monkeypatch.setattr(texts, "load_docstrings", load_docstrings)
    X_train, y_train, X_test, _ = texts.load_mixed()
    words = [word for text in [*X_train, *X_test] for word in text.split()]
    assert len(set(words)) == len(words)
    lengths = np.array([len(text.split()) for text in X_train])
    assert 14 <= np.median(lengths) <= 18
    assert lengths.max() > 100
    numbers = [int(text[1 : text.index("x")]) for text in X_train]
    assert [labels[number] for number in numbers] == list(y_train)


@pytest.fixture
def ours(monkeypatch):
    """Return the script that runs the project, as a module of this process."""
    monkeypatch.syspath_prepend(PEERS)
    module = importlib.import_module("with_sktransformers")
    monkeypatch.setattr(
        module, "latencies", lambda *calls: [len(call()) for call in calls]
    )
    return module


@pytest.fixture
def task(tiny_model, sentences, tmp_path):
    X, y = sentences
    return {
        "model": tiny_model,
        "seed": 0,
        "options": {"device": "cpu", "max_epochs": 1},
        "X": X,
        "y": y,
        "X_test": X[:8],
        "y_test": y[:8],
        "text": X[0],
        "fitted": str(tmp_path / "fitted.joblib"),
    }


def test_our_contestant_does_all_works(ours, task):
    fitted = ours.fit({**task, **speed.HYPER, "max_length": 32, "epochs": 2})
    assert fitted["epochs"] == 1  # options win
    assert 0 < fitted["train_seconds"] < fitted["seconds"]
    prepared = ours.prepare(task)
    predicted = ours.predict({**task, "options": {}})
    assert predicted["probabilities"] == prepared["probabilities"]
    assert ours.one({**task, "options": {}}) == {"seconds": 1, "bare_seconds": 1}
    bfloat16 = {**task, "options": {"inference_precision": "bfloat16"}}
    assert ours.predict(bfloat16)["precision"] == "bfloat16"
    assert ours.embed(bfloat16)["seconds"] > 0


def test_the_start_of_the_head_can_be_left_out(ours, task, monkeypatch):
    fitting = importlib.import_module("sktransformers._training.fit")
    monkeypatch.setattr(fitting, "init_head", fitting.init_head)  # restored later
    options = {"max_epochs": 0, "device": "cpu"}
    started = ours.make({**task, "options": options})
    head = started.fit(task["X"], task["y"]).model_.head.weight
    assert head.std() > 0.1
    left = ours.make({**task, "options": {**options, "random_head": True}})
    head = left.fit(task["X"], task["y"]).model_.head.weight
    assert head.std() < 0.05


def test_operations_are_counted_as_torch_counts_them(ours, fitted_classifier):
    from torch.utils.flop_counter import FlopCounterMode

    text = "this film is a good film and the plot is not so bad"
    model = copy.deepcopy(fitted_classifier.model_)
    model.encoder.set_attn_implementation("eager")  # fused attention is not counted
    inputs = fitted_classifier.tokenizer_([text], return_tensors="pt")
    with FlopCounterMode(display=False) as counter:
        model.embed(**inputs)
    counted = ours.forward_flops(fitted_classifier, [text])
    assert counted == pytest.approx(counter.get_total_flops(), rel=0.01)  # the pooler
