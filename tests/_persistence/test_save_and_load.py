"""Tests that a loaded estimator equals the saved one."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from saved_models import MAKERS, X, Y, predictions, read_again
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from tiny_models import make_sentences

from sktransformers import TransformerClassifier
from sktransformers import _persistence as persistence
from sktransformers.exceptions import ModelFormatError

read = TransformerClassifier.from_pretrained


@pytest.mark.parametrize("kind", MAKERS)
def test_what_is_read_is_what_was_saved(kind, saved, capfd):
    estimator, folder = saved(kind)
    capfd.readouterr()
    again = read_again(estimator, folder)
    assert capfd.readouterr() == ("", "")
    assert np.array_equal(predictions(again), predictions(estimator))
    assert again.get_params() == estimator.get_params()
    assert vars(again).keys() == vars(estimator).keys()
    for name in ("history_", "n_epochs_", "n_truncated_", "_length_limit"):
        assert getattr(again, name) == getattr(estimator, name)


def test_a_new_process_fits_and_predicts_the_same_to_the_bit(
    saved, tiny_classifier, tmp_path, n_threads
):
    names = {kind: type(saved(kind)[0]).__name__ for kind in MAKERS}
    program = """
import json, sys
import numpy as np
import torch
import sktransformers
from saved_models import X, Y, predictions
torch.set_num_threads(int(sys.argv[3]))
for kind, (name, folder) in json.loads(sys.argv[1]).items():
    estimator = getattr(sktransformers, name).from_pretrained(folder)
    found = {"p": predictions(estimator).astype(object), "q": estimator.get_params()}
    np.save(f"{sys.argv[2]}/{kind}.npy", found, allow_pickle=True)
classifier = sktransformers.TransformerClassifier(**json.loads(sys.argv[4]))
np.save(f"{sys.argv[2]}/fitted.npy", classifier.fit(X, Y).predict_proba(X))
"""
    jobs = {kind: (name, str(saved(kind)[1])) for kind, name in names.items()}
    root = Path(__file__).parents[2]
    path = f"{root}{os.pathsep}{root / 'tests' / 'helpers'}"
    params = json.dumps(tiny_classifier.get_params())
    args = json.dumps(jobs), tmp_path, str(n_threads), params
    done = subprocess.run(
        [sys.executable, "-c", program, *args],
        env={**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "12345"},
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for kind in MAKERS:
        found = np.load(tmp_path / f"{kind}.npy", allow_pickle=True).item()
        estimator, _ = saved(kind)
        assert np.array_equal(found["p"], predictions(estimator).astype(object)), kind
        assert found["q"] == estimator.get_params()
    fitted = tiny_classifier.fit(X, Y).predict_proba(X)
    assert np.array_equal(np.load(tmp_path / "fitted.npy"), fitted)


def test_reading_touches_no_global_state(saved):
    estimator, folder = saved("pooled")
    state = torch.get_rng_state()
    read_again(estimator, folder)
    assert torch.equal(torch.get_rng_state(), state)


def test_what_was_read_can_be_saved_trained_cloned_and_pickled(saved, tmp_path):
    estimator, folder = saved("pooled")
    again = read_again(estimator, folder)
    again.save_pretrained(tmp_path / "again")
    third = read_again(estimator, tmp_path / "again")
    assert np.array_equal(predictions(third), predictions(estimator))
    assert clone(again).get_params() == estimator.get_params()
    unpickled = pickle.loads(pickle.dumps(again))
    assert np.array_equal(predictions(unpickled), predictions(estimator))
    again.set_params(warm_start=True).fit(X, Y)
    assert not np.array_equal(predictions(again), predictions(estimator))


def test_a_pickle_of_what_was_loaded_does_not_say_where_from(folder):
    found = read(folder)
    assert str(folder).encode() not in pickle.dumps(found)
    assert str(folder) not in repr(found) + found._repr_html_()


def test_a_subclass_reads_what_it_saved(saved, tmp_path):
    class Mine(TransformerClassifier):
        pass

    _, folder = saved("pooled")
    mine = Mine.from_pretrained(folder)
    assert type(mine) is Mine
    mine.save_pretrained(tmp_path / "saved")
    assert type(Mine.from_pretrained(tmp_path / "saved")) is Mine


def test_an_unfitted_estimator_is_not_saved(tiny_model, tmp_path):
    with pytest.raises(NotFittedError):
        TransformerClassifier(tiny_model).save_pretrained(tmp_path / "saved")
    with pytest.raises(NotFittedError):
        TransformerClassifier(tiny_model).push_to_hub("me/model")


def test_the_device_can_be_chosen_and_a_runtime_is_not_saved(saved, tmp_path):
    estimator, folder = saved("pooled")
    assert read_again(estimator, folder, device="auto").device == "auto"
    fast = read_again(estimator, folder)
    fast._accelerated = object()
    fast.save_pretrained(tmp_path / "saved")
    assert "_accelerated" not in vars(read_again(estimator, tmp_path / "saved"))


def test_saving_changes_nothing_in_the_estimator(saved, tmp_path):
    estimator, _ = saved("head")
    before = pickle.dumps(estimator.model_.model.config.to_dict())
    estimator.save_pretrained(tmp_path / "saved")
    assert pickle.dumps(estimator.model_.model.config.to_dict()) == before


def test_files_can_be_read_by_whom_umask_lets(saved):
    _, folder = saved("pooled")
    modes = {p.stat().st_mode & 0o777 for p in folder.rglob("*") if p.is_file()}
    umask = os.umask(0)
    os.umask(umask)
    assert modes == {0o666 & ~umask}


def test_errors_of_libraries_become_ours(folder, monkeypatch):
    def fail(*args):
        raise RuntimeError("of a library")

    monkeypatch.setattr(persistence, "read_estimator", fail)
    with pytest.raises(ModelFormatError, match=r"saved cannot be read: of a library"):
        read(folder)


@pytest.mark.embedded
def test_a_real_model_is_saved_in_a_moment(tmp_path):
    texts, labels = make_sentences(8)
    classifier = TransformerClassifier(trainable="head", device="cpu")
    classifier.fit(texts, labels).save_pretrained(tmp_path / "saved")
    again = TransformerClassifier.from_pretrained(tmp_path / "saved")
    assert np.array_equal(again.predict_proba(texts), classifier.predict_proba(texts))
