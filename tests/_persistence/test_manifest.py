"""Tests of the manifest: damaged, missing, additional and linked files."""

import contextlib
import json
import os
import re

import numpy as np
import pytest
from saved_models import FILES, is_same, seal

from sktransformers import TransformerClassifier
from sktransformers.exceptions import ModelFormatError

posix = pytest.mark.skipif(os.name == "nt", reason="what POSIX promises")
read = TransformerClassifier.from_pretrained


# Damage


def test_the_list_of_files_is_whole(original):
    found = {p.relative_to(original).as_posix() for p in original.rglob("*.*")}
    assert found - {"1_Pooling"} == {*FILES, "README.md"}


def test_the_model_card_may_be_edited(classifier, folder):
    card = folder / "README.md"
    card.write_text(card.read_text("utf-8") + "\nTrained for a talk.\n", "utf-8")
    assert is_same(read(folder), classifier)
    card.unlink()
    assert is_same(read(folder), classifier)
    classifier.save_pretrained(folder, overwrite=True)
    assert card.is_file()


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_byte_is_found(name, folder):
    path = folder / name
    content = path.read_bytes()
    for place in np.linspace(0, len(content) - 1, 8).astype(int):
        for mask in (0x01, 0x20, 0xFF):
            flipped = bytearray(content)
            flipped[place] ^= mask
            path.write_bytes(flipped)
            with pytest.raises(ModelFormatError, match=re.escape(str(folder))):
                read(folder)


def test_a_manifest_that_says_the_same_in_other_bytes_is_found(folder):
    path = folder / "MANIFEST.json"
    content = path.read_bytes()
    for old, new in [(b"  ", b" \n"), (b"\n", b""), (b"config", rb"\u0063onfig")]:
        path.write_bytes(content.replace(old, new, 1))
        with pytest.raises(ModelFormatError, match="was changed after"):
            read(folder)


@pytest.mark.parametrize("share", [0, 0.5, 0.99])
@pytest.mark.parametrize("name", FILES)
def test_a_file_that_was_cut_is_found(name, share, folder):
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: int(share * len(content))])
    with pytest.raises(ModelFormatError, match=re.escape(name)):
        read(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_was_cut_is_found_without_the_manifest(name, folder):
    if name == "MANIFEST.json":
        return
    for share in (0, 0.5, 0.99):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(share * len(content))])
        seal(folder)
        with pytest.raises(ModelFormatError, match=re.escape(str(folder))):
            read(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(name, folder):
    (folder / name).unlink()
    with pytest.raises(ModelFormatError, match=re.escape(name)):
        read(folder)
    if name not in ("MANIFEST.json", "sentence_bert_config.json"):
        seal(folder)
        with pytest.raises(ModelFormatError, match=re.escape(str(folder))):
            read(folder)


# Files and names


@pytest.mark.parametrize(
    "name", ["model-00001-of-00002.safetensors", "a.txt", "b/c.md"]
)
def test_files_that_the_manifest_does_not_list_are_refused(name, folder):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("{}")
    with pytest.raises(ModelFormatError, match=re.escape(name)):
        read(folder)


@pytest.mark.parametrize(
    "name",
    ["adapter_config.json", "adapter_model.safetensors", "x.index.json", "d/e/f.md"],
)
def test_files_of_other_models_are_refused_even_if_listed(name, folder):
    (folder / name).parent.mkdir(exist_ok=True, parents=True)
    (folder / name).write_text("{}")
    with contextlib.suppress(ModelFormatError):
        seal(folder)
    with pytest.raises(ModelFormatError, match=re.escape(name)):
        read(folder)


def test_what_version_control_keeps_is_left_alone(folder, classifier):
    (folder / ".git").mkdir()
    (folder / ".git" / "hook.py").write_text("1/0")
    (folder / ".gitattributes").write_text("")
    assert is_same(read(folder), classifier)


@pytest.mark.parametrize(
    "name", ["../secret.json", "/etc/passwd", "a/../../b.json", "C:\\x.json", "", "."]
)
def test_names_that_lead_elsewhere_are_refused(name, folder, tmp_path):
    (tmp_path / "secret.json").write_text("{}")
    path = folder / "MANIFEST.json"
    manifest = json.loads(path.read_text())
    manifest["files"][name] = {"sha256": "0", "size": 2}
    path.write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n")
    with pytest.raises(ModelFormatError, match="is not read"):
        read(folder)


@posix
@pytest.mark.parametrize("name", FILES)
def test_links_that_leave_the_directory_are_refused(name, folder, tmp_path):
    (folder / name).rename(tmp_path / "outside.json")
    (folder / name).symlink_to(tmp_path / "outside.json")
    with pytest.raises(ModelFormatError, match="leaves the directory"):
        read(folder)
    (folder / name).unlink()
    (folder / name).symlink_to(folder / name)
    with pytest.raises(ModelFormatError, match="cannot be read"):
        read(folder)


@posix
def test_links_to_folders_and_pipes_are_refused(folder, tmp_path):
    (folder / "1_Pooling").rename(tmp_path / "1_Pooling")
    (folder / "1_Pooling").symlink_to(tmp_path / "1_Pooling")
    with pytest.raises(ModelFormatError, match="leaves the directory"):
        read(folder)
    (folder / "1_Pooling").unlink()
    os.mkfifo(folder / "1_Pooling.json")
    with pytest.raises(ModelFormatError, match="neither a file nor a folder"):
        read(folder)


def test_the_manifest_is_written_last(original):
    times = {path.stat().st_mtime_ns: path.name for path in original.rglob("*.*")}
    assert times[max(times)] == "MANIFEST.json"
