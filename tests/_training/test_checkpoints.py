"""A fit that was interrupted goes on as if it had never stopped."""

import os
import pathlib
import pickle
import shutil
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from recorders import Killed, Killer
from sklearn.base import clone
from tiny_models import make_sentences

from sktransformers import TransformerClassifier
from sktransformers._training import checkpoints as module
from sktransformers._training.checkpoints import TrainingCheckpoints
from sktransformers.exceptions import CheckpointError, CheckpointWarning

ROOT = pathlib.Path(__file__).parents[2]
PATHS = ROOT, ROOT / "tests" / "helpers"


@pytest.fixture(autouse=True)
def after_each_step(monkeypatch):
    """Write a checkpoint wherever the training could go on."""
    monkeypatch.setattr(TrainingCheckpoints, "is_due", lambda self: True)


@pytest.fixture
def watched(tiny_classifier, tmp_path):
    """Return an unfitted classifier of 4 epochs and 16 steps, with dropout."""
    return tiny_classifier.set_params(
        max_epochs=4, checkpoint_dir=tmp_path / "checkpoints"
    )


def interrupt(estimator, at, X, y):
    """Fit until a step begins."""
    with pytest.raises(Killed):
        clone(estimator).set_callbacks(Killer(at)).fit(X, y)


def weights_of(estimator):
    return {k: v.clone() for k, v in estimator.model_.state_dict().items()}


def assert_equal_fits(one, other):
    weights = weights_of(other)
    assert weights.keys() == weights_of(one).keys()
    for name, tensor in weights_of(one).items():
        assert torch.equal(tensor, weights[name]), name
    for ours, theirs in zip(one.history_, other.history_, strict=True):
        for name in ("epoch", "n_steps", "train_loss", "learning_rate"):
            assert ours[name] == theirs[name]


@pytest.mark.parametrize("at", [2, 5, 16])
def test_going_on_is_bit_equal_to_never_having_stopped(at, watched, sentences):
    X, y = sentences
    expected = clone(watched).set_params(checkpoint_dir=None).fit(X, y)
    interrupt(watched, at, X, y)
    resumed = watched.set_callbacks(counter := Killer(-1)).fit(X, y)
    assert counter.steps == 16 - (at - 1)
    assert_equal_fits(resumed, expected)


@pytest.mark.parametrize(
    "changes",
    [
        {"trainable": 1},
        pytest.param({"trainable": "head"}, marks=pytest.mark.slow),
        pytest.param(
            {"early_stopping": True, "n_iter_no_change": 5}, marks=pytest.mark.slow
        ),
        {"random_state": None, "early_stopping": True},
        pytest.param({"gradient_accumulation_steps": 2}, marks=pytest.mark.slow),
        {"lora_rank": 2, "lora_dropout": 0.1},
        {"precision": "bfloat16"},
        pytest.param({"pooling": "head"}, marks=pytest.mark.slow),
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_going_on_with_other_settings(changes, watched, sentences, tmp_path):
    if "lora_rank" in changes:
        pytest.importorskip("peft")
    X, y = sentences
    watched.set_params(**changes)
    interrupt(watched, 7, X, y)
    copy = tmp_path / "copy"
    shutil.copytree(tmp_path / "checkpoints", copy)
    first = clone(watched).fit(X, y)
    second = clone(watched).set_params(checkpoint_dir=copy).fit(X, y)
    assert_equal_fits(first, second)
    if changes.get("random_state", 0) is not None:
        plain = clone(watched).set_params(checkpoint_dir=tmp_path / "other").fit(X, y)
        assert_equal_fits(first, plain)


def test_a_fit_that_ends_leaves_nothing(watched, sentences, tmp_path):
    watched.fit(*sentences)
    assert not (tmp_path / "checkpoints").exists()
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "note.txt").write_text("mine")
    watched.fit(*sentences)
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["note.txt"]


def steps_in(folder):
    """Return the checkpoints in a folder without their hashes."""
    return sorted(path.name.split(".")[0] for path in folder.iterdir())


def test_old_checkpoints_are_removed(watched, sentences, tmp_path):
    interrupt(watched, 9, *sentences)
    assert steps_in(tmp_path / "checkpoints") == ["step-000000007", "step-000000008"]


def test_nothing_is_written_without_a_directory(
    tiny_classifier, sentences, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    tiny_classifier.fit(*sentences)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "change",
    [
        {"learning_rate": 5e-4},
        {"batch_size": 8},
        {"random_state": 1},
        {"max_length": 6},
        {"class_weight": "balanced"},
    ],
    ids=lambda change: next(iter(change)),
)
@pytest.mark.filterwarnings("ignore::sktransformers.exceptions.TruncationWarning")
def test_other_parameters_are_refused(change, watched, sentences, tmp_path):
    interrupt(watched, 3, *sentences)
    before = sorted((tmp_path / "checkpoints").iterdir())
    with pytest.raises(CheckpointError, match=r"other data or parameters.*another"):
        clone(watched).set_params(**change).fit(*sentences)
    assert sorted((tmp_path / "checkpoints").iterdir()) == before


def test_other_data_are_refused(watched, sentences):
    X, y = sentences
    interrupt(watched, 3, X, y)
    for other_X, other_y, weights in (
        (X[:-1], y[:-1], None),
        (["other", *X[1:]], y, None),
        (X, y[::-1], None),
        (X, y, np.arange(1, 65)),
    ):
        with pytest.raises(CheckpointError, match="other data"):
            clone(watched).fit(other_X, other_y, sample_weight=weights)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def flip_name(path):
    path.rename(path.with_name(path.name.replace("8.", "8.0")))


@pytest.mark.parametrize("damage", [cut, flip, flip_name])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    damage, watched, sentences, tmp_path
):
    X, y = sentences
    expected = clone(watched).set_params(checkpoint_dir=None).fit(X, y)
    interrupt(watched, 9, X, y)
    damage(*(tmp_path / "checkpoints").glob("step-000000008.*"))
    with pytest.warns(CheckpointWarning, match="step-000000008") as caught:
        watched.set_callbacks(counter := Killer(-1)).fit(X, y)
    assert len(caught) == 1
    assert counter.steps == 16 - 7
    assert_equal_fits(watched, expected)


def test_a_full_disk_leaves_the_earlier_checkpoints(
    watched, sentences, tmp_path, monkeypatch
):
    X, y = sentences
    interrupt(watched, 4, X, y)
    expected = clone(watched).set_params(checkpoint_dir=None).fit(X, y)
    write = module.save_file

    def full(tensors, path, **options):
        write(tensors, path, **options)
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(module, "save_file", full)
    with pytest.raises(CheckpointError, match=r"step-000000004.*No space left"):
        clone(watched).fit(X, y)
    monkeypatch.undo()
    assert steps_in(tmp_path / "checkpoints") == ["step-000000002", "step-000000003"]
    assert_equal_fits(clone(watched).fit(X, y), expected)


def test_what_is_written_is_flushed_before_it_appears(tmp_path, monkeypatch):
    events = []
    fsync, replace = os.fsync, pathlib.Path.replace

    def note_fsync(descriptor):
        name = pathlib.Path(os.readlink(f"/proc/self/fd/{descriptor}")).name
        events.append(name if not name.startswith(".") else "new file")
        fsync(descriptor)

    def note_replace(path, target):
        events.append("rename")
        return replace(path, target)

    if not pathlib.Path("/proc/self/fd").exists():
        pytest.skip("reads /proc")
    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(pathlib.Path, "replace", note_replace)
    TrainingCheckpoints(tmp_path / "parent", "fit").save(1, {"a": torch.ones(2)})
    assert events == ["new file", "rename", "parent"]


def test_a_state_is_read_as_it_was_written(tmp_path):
    state = {
        "numbers": [1, 2.5, 2**127, None, True, "text"],
        "nested": {0: {"x": torch.arange(3)}, 1: [torch.ones(2, dtype=torch.bfloat16)]},
    }
    TrainingCheckpoints(tmp_path, "fit").save(3, state)
    read = TrainingCheckpoints(tmp_path, "fit").newest()
    assert read["numbers"] == state["numbers"]
    assert torch.equal(read["nested"][0]["x"], state["nested"][0]["x"])
    assert read["nested"][1][0].dtype == torch.bfloat16


def test_an_estimator_with_checkpoints_can_be_pickled(watched, sentences):
    X, y = sentences
    fitted = pickle.loads(pickle.dumps(watched.fit(X, y)))
    assert (fitted.predict(X) == watched.predict(X)).all()


def test_signals_are_as_before(watched, sentences):
    before = signal.getsignal(signal.SIGTERM)
    watched.fit(*sentences)
    assert signal.getsignal(signal.SIGTERM) is before
    interrupt(watched, 3, *sentences)
    assert signal.getsignal(signal.SIGTERM) is before


SCRIPT = """
    import os, signal, sys
    import torch
    from tiny_models import make_sentences
    from recorders import Killer
    from sktransformers import TransformerClassifier

    class Terminator(Killer):
        def on_fit_task_begin(self, estimator, context):
            if context.task_name == "step":
                self.steps += 1
                if self.steps == self.at:
                    os.kill(os.getpid(), signal.SIGTERM)

    torch.set_num_threads(int(sys.argv[3]))
    classifier = TransformerClassifier(
        sys.argv[1], max_epochs=4, batch_size=16, learning_rate=1e-3, device="cpu",
        random_state=0, checkpoint_dir=sys.argv[2],
    )
    classifier.set_callbacks(Terminator(6)).fit(*make_sentences(64))
    print("not terminated")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGTERM")
def test_sigterm_writes_a_last_checkpoint(tiny_model, tmp_path, n_threads):
    folder = tmp_path / "checkpoints"
    args = tiny_model, str(folder), str(n_threads)
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT), *args],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, PATHS))},
        check=False,
    )
    assert ended.returncode == -signal.SIGTERM, ended.stderr
    assert steps_in(folder) == ["step-000000006"]
    X, y = make_sentences(64)
    classifier = TransformerClassifier(
        tiny_model,
        max_epochs=4,
        batch_size=16,
        learning_rate=1e-3,
        device="cpu",
        random_state=0,
    )
    threads = torch.get_num_threads()
    expected = clone(classifier).fit(X, y)
    resumed = classifier.set_params(checkpoint_dir=folder).fit(X, y)
    assert threads == torch.get_num_threads()
    assert resumed.n_epochs_ == 4
    for name, tensor in weights_of(resumed).items():
        torch.testing.assert_close(tensor, weights_of(expected)[name])
