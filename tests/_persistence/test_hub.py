"""Tests of saved estimators on the Hugging Face hub."""

import os
import pickle
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
from saved_models import predictions, read_again

from sktransformers._models import hub
from sktransformers.exceptions import ModelFormatError


class FakeApi:
    """Keeps what would be sent."""

    sent: dict = {}

    def create_repo(self, repo_id, **options):
        self.sent["repo"] = repo_id, options

    def upload_folder(self, *, folder_path, **options):
        files = {p for p in Path(folder_path).rglob("*") if p.is_file()}
        names = {p.relative_to(folder_path).as_posix(): p.read_bytes() for p in files}
        self.sent["files"], self.sent["options"] = names, options
        return type("Commit", (), {"commit_url": "https://hub/commit/1"})()


@pytest.fixture
def pushed(monkeypatch):
    monkeypatch.setattr(FakeApi, "sent", {})
    monkeypatch.setattr(huggingface_hub, "HfApi", FakeApi)
    return FakeApi.sent


def test_what_is_pushed_is_what_is_saved(saved, pushed):
    estimator, folder = saved("pooled")
    address = estimator.push_to_hub("me/model", private=True, commit_message="First")
    assert address == "https://hub/commit/1"
    assert pushed["repo"] == ("me/model", {"private": True, "exist_ok": True})
    assert pushed["options"]["commit_message"] == "First"
    # What was left of an earlier model would change how this one is read.
    assert {"*.json", "*.safetensors"} <= set(pushed["options"]["delete_patterns"])
    expected = {
        p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()
    }
    assert pushed["files"].keys() == expected
    name = "model.safetensors"
    assert pushed["files"][name] == (folder / name).read_bytes()


def test_a_token_is_in_nothing_that_is_written(saved, pushed, monkeypatch, tmp_path):
    token = "hf_" + "s3cr3t" * 5
    monkeypatch.setenv("HF_TOKEN", token)
    estimator, _ = saved("pooled")
    estimator.save_pretrained(tmp_path / "saved")
    estimator.push_to_hub("me/model")
    written = [p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()]
    shown = [repr(estimator), estimator._repr_html_(), pickle.dumps(estimator).hex()]
    for content in (*written, *pushed["files"].values()):
        assert token.encode() not in content
    assert token.encode().hex() not in shown.pop()
    assert all(token not in text for text in shown)


@pytest.fixture
def cached(saved, monkeypatch, tmp_path):
    """Put a saved estimator into a cache as the hub's client lays it out."""
    estimator, folder = saved("pooled")
    repository = tmp_path / "hub" / "models--me--model"
    snapshot = repository / "snapshots" / "c0ffee"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("c0ffee")
    (repository / "blobs").mkdir()
    for number, path in enumerate(p for p in folder.rglob("*") if p.is_file()):
        blob = repository / "blobs" / str(number)
        blob.write_bytes(path.read_bytes())
        link = snapshot / path.relative_to(folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    monkeypatch.setattr(
        huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub")
    )
    monkeypatch.setattr(hub, "_is_reachable", lambda: False)
    return estimator, snapshot


def test_a_hub_id_is_read_from_the_cache(cached):
    estimator, snapshot = cached
    again = read_again(estimator, "me/model")
    assert np.array_equal(predictions(again), predictions(estimator))
    edit_link = snapshot / "README.md"
    edit_link.unlink()
    edit_link.symlink_to("/etc/hostname")
    with pytest.raises(ModelFormatError, match="leaves the directory"):
        read_again(estimator, "me/model")


def test_only_what_the_manifest_lists_is_downloaded(cached, monkeypatch):
    estimator, snapshot = cached
    (snapshot / "model.safetensors").rename(snapshot / "model.part")
    asked = []

    def download(name, file, revision=None):
        asked.append((file, revision))
        return str(snapshot / file)

    def download_all(name, revision=None, allow_patterns=None):
        asked.append((sorted(allow_patterns), revision))
        (snapshot / "model.part").rename(snapshot / "model.safetensors")
        return str(snapshot)

    monkeypatch.setattr(hub, "_is_reachable", lambda: True)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download_all)
    again = read_again(estimator, "me/model")
    assert np.array_equal(predictions(again), predictions(estimator))
    files = sorted(
        p.relative_to(snapshot).as_posix()
        for p in snapshot.rglob("*")
        if p.is_file() and p.name != "README.md"
    )
    assert asked == [
        ("sktransformers.json", None),
        ("MANIFEST.json", "c0ffee"),
        (files, "c0ffee"),
    ]
