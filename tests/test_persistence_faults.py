"""Damage, malice and bad luck: a saved model is read whole, or an error says why."""

import contextlib
import errno
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch
from conftest import save_tiny_model
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from saved_models import MAKERS, X, Y, edit, predictions, save_head, seal

from sktransformers import TransformerClassifier, persistence
from sktransformers.exceptions import (
    ModelFormatError,
    ModelSaveError,
    SktransformersError,
)
from sktransformers.models import hub

posix = pytest.mark.skipif(os.name == "nt", reason="what POSIX promises")


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """Return a fitted classifier; not to be changed."""
    return MAKERS["pooled"](tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """Return another one, that predicts something else."""
    folder = tmp_path_factory.mktemp("other")
    return TransformerClassifier(
        save_tiny_model(folder, initializer_range=0.1), device="cpu", trainable="head"
    ).fit(X, Y)


@pytest.fixture(scope="module")
def original(classifier, tmp_path_factory):
    """Return the directory that the classifier was saved to; not to be changed."""
    folder = tmp_path_factory.mktemp("original") / "saved"
    classifier.save_pretrained(folder)
    return folder


@pytest.fixture
def folder(original, tmp_path):
    """Return a directory that a test may spoil."""
    return Path(shutil.copytree(original, tmp_path / "saved"))


FILES = [
    *("MANIFEST.json", "README.md", "config.json", "head.safetensors"),
    *("model.safetensors", "modules.json", "sentence_bert_config.json"),
    *("sktransformers.json", "tokenizer.json", "tokenizer_config.json"),
    "1_Pooling/config.json",
]
read = TransformerClassifier.from_pretrained


def is_same(first, second):
    return np.array_equal(predictions(first), predictions(second))


def tree(folder):
    """Return all that there is in a folder."""
    return {
        str(path.relative_to(folder)): (path.lstat().st_mtime_ns, path.lstat().st_size)
        for path in folder.rglob("*")
    }


# Damage


def test_the_list_of_files_is_whole(original):
    found = {p.relative_to(original).as_posix() for p in original.rglob("*.*")}
    assert found - {"1_Pooling"} == set(FILES)


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
    for old, new in [(b"  ", b" \n"), (b"\n", b""), (b"README", rb"\u0052EADME")]:
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
        if name in ("README.md", "sentence_bert_config.json"):
            read(folder)  # which nothing here depends on
        else:
            with pytest.raises(ModelFormatError, match=re.escape(str(folder))):
                read(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(name, folder):
    (folder / name).unlink()
    with pytest.raises(ModelFormatError, match=re.escape(name)):
        read(folder)
    if name not in ("MANIFEST.json", "README.md", "sentence_bert_config.json"):
        seal(folder)
        with pytest.raises(ModelFormatError, match=re.escape(str(folder))):
            read(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "head.safetensors"])
def test_weights_must_be_all_and_no_others(name, folder):
    tensors = load_file(folder / name)
    first = next(iter(tensors))
    for changed in (
        {k: v for k, v in tensors.items() if k != first},
        {**tensors, "more.weight": torch.zeros(1)},
        {**tensors, first: torch.zeros(1)},
    ):
        save_file(changed, folder / name, metadata={"format": "pt"})
        seal(folder)
        with pytest.raises(ModelFormatError, match=re.escape(name)):
            read(folder)


def keys_of(state, path=()):
    """Yield the path of each key of an object."""
    for key, value in state.items() if isinstance(state, dict) else ():
        yield (*path, key)
        if key not in ("history", "versions"):
            yield from keys_of(value, (*path, key))


def test_every_key_is_needed_and_no_other_allowed(folder):
    path = folder / "sktransformers.json"
    content = path.read_text()
    keys = list(keys_of(json.loads(content)))
    assert ("parameters", "learning_rate") in keys
    for names in keys:
        for change in ("drop", "add"):
            state = parent = json.loads(content)
            for name in names[:-1]:
                parent = parent[name]
            if change == "drop":
                del parent[names[-1]]
            else:
                parent["another"] = parent.get(names[-1])
            if names[0] == "versions" and len(names) > 1:
                continue  # of any packages
            path.write_text(json.dumps(state))
            seal(folder)
            with pytest.raises(ModelFormatError, match=re.escape(str(path))):
                read(folder)


@pytest.mark.parametrize(
    ("names", "value"),
    [
        (("format",), 2),
        (("estimator",), "os.system"),
        (("estimator",), "TransformerTagger"),
        (("parameters", "batch_size"), "many"),
        (("parameters", "max_epochs"), {"dict": [[[], 1]]}),
        (("fitted", "n_columns"), True),
        (("fitted", "n_columns"), None),
        (("fitted", "history"), [{"epoch": "one"}]),
        (("fitted", "languages"), {"chat_template": "x"}),
        (("target", "kind"), "texts"),
        (("target", "classes", "dtype"), "V8"),
        (("target", "classes", "dtype"), "|O8"),
        (("target", "classes", "values"), ["neg", 1]),
        (("target", "classes", "values"), ["neg", "neg"]),
        (("target", "classes", "values"), ["neg", "longer"]),
        (("target", "classes", "values"), []),
        (("model", "kind"), "language"),
        (("model", "pooling"), "sum"),
        (("model", "dtype"), "float8"),
        (("model", "has_adapter"), True),
        (("adapter",), {"rank": 2}),
        (("layout",), {}),
        (("base", "weights_hash"), "0"),
    ],
)
def test_values_must_be_of_their_kinds(names, value, folder):
    def change(state):
        for name in names[:-1]:
            state = state[name]
        state[names[-1]] = value

    edit(folder / "sktransformers.json", change)
    with pytest.raises(ModelFormatError, match=re.escape(str(folder))):
        read(folder)


def test_errors_of_libraries_become_ours(folder, monkeypatch):
    def fail(*args):
        raise RuntimeError("of a library")

    monkeypatch.setattr(persistence, "read_estimator", fail)
    with pytest.raises(ModelFormatError, match=r"saved cannot be read: of a library"):
        read(folder)


# Malice


@pytest.fixture
def trap(tmp_path, monkeypatch):
    """Put a module where Python finds it, and return what its import leaves behind."""
    sprung = tmp_path / "sprung"
    module = tmp_path / "modules" / "evil_module.py"
    module.parent.mkdir()
    module.write_text(f"open({str(sprung)!r}, 'w').close()\nclass Evil: pass\n")
    monkeypatch.syspath_prepend(module.parent)
    monkeypatch.setattr(hub, "_is_reachable", lambda: False)
    yield sprung
    assert not sprung.exists()
    assert "evil_module" not in sys.modules


AUTO_MAP = {"AutoConfig": "evil_module.Evil", "AutoModel": "evil_module.Evil"}


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("config.json", {"auto_map": AUTO_MAP}),
        ("config.json", {"auto_map": AUTO_MAP, "model_type": "evil_module"}),
        ("config.json", {"model_type": "evil_module"}),
        ("config.json", {"_attn_implementation": "evil/kernel"}),
        ("config.json", {"attn_implementation": "evil/kernel:forward"}),
        ("config.json", {"experts_implementation": "evil/kernel"}),
        ("config.json", {"quantization_config": {"quant_method": "evil_module"}}),
        ("config.json", {"text_config": {"auto_map": AUTO_MAP}}),
        (
            "tokenizer_config.json",
            {"auto_map": {"AutoTokenizer": ["evil_module.Evil"]}},
        ),
        ("tokenizer_config.json", {"tokenizer_class": "evil_module.Evil"}),
        ("tokenizer_config.json", {"vocab_file": "/etc/passwd"}),
        ("sktransformers.json", {"estimator": "evil_module.Evil"}),
        ("sktransformers.json", {"target": {"kind": "evil_module.Evil"}}),
        ("modules.json", [{"idx": 0, "path": "", "type": "evil_module.Evil"}]),
    ],
)
def test_names_in_json_are_not_imported(name, changes, folder, trap):
    (folder / "evil_module").mkdir()
    edit(
        folder / name,
        lambda content: (
            changes if isinstance(changes, list) else {**content, **changes}
        ),
    )
    if name == "tokenizer_config.json" and "tokenizer_class" in changes:
        read(folder)  # transformers takes another of its own
        return
    with pytest.raises(ModelFormatError, match=re.escape(str(folder))):
        read(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"auto_map": {"AutoModelForSequenceClassification": "evil_module.Evil"}},
        {"_attn_implementation": "evil/kernel"},
        {"attn_implementation": "evil/kernel"},
        {"auto_map": AUTO_MAP, "model_type": "evil_module"},
    ],
)
def test_code_of_a_model_that_was_trained_elsewhere_is_left_alone(
    changes, tmp_path, trap
):
    folder = tmp_path / "model"
    save_head(folder, "SequenceClassification", ["a", "b"])
    shutil.copy(tmp_path / "modules" / "evil_module.py", folder)
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    if "model_type" in changes:
        with pytest.raises(ModelFormatError):
            read(folder)
        return
    classifier = read(folder, device="cpu")
    assert classifier.model_.model.config._attn_implementation == "sdpa"
    classifier.predict(X)
    classifier.save_pretrained(tmp_path / "saved")
    assert "evil" not in (tmp_path / "saved" / "config.json").read_text()
    read(tmp_path / "saved")


class Payload:
    """What a pickle runs."""

    def __reduce__(self):
        return __import__, ("evil_module",)


@pytest.mark.parametrize(
    "name",
    [*FILES, "pytorch_model.bin", "model.pt", "a.pkl", "a.joblib", "a.PY", "a.so"],
)
def test_a_pickle_is_never_opened(name, folder, trap):
    payload = pickle.dumps(Payload())
    (folder / name).write_bytes(payload)
    with pytest.raises(ModelFormatError, match=re.escape(name)):
        read(folder)
    if name in FILES and name not in ("MANIFEST.json", "README.md"):
        seal(folder)
        if name != "sentence_bert_config.json":
            with pytest.raises(ModelFormatError, match=re.escape(str(folder))):
                read(folder)


def test_a_pickle_trained_elsewhere_does_not_run(tmp_path, trap):
    folder = tmp_path / "model"
    save_head(folder, "SequenceClassification", ["a", "b"])
    (folder / "model.safetensors").unlink()
    torch.save({"a": Payload()}, folder / "pytorch_model.bin")
    with pytest.raises(ModelFormatError, match="cannot be read"):
        read(folder)


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


# Bad luck


def test_what_is_there_is_not_replaced_unless_asked_for(classifier, other, folder):
    with pytest.raises(ModelSaveError, match="overwrite=True"):
        other.save_pretrained(folder)
    assert is_same(read(folder), classifier)
    other.save_pretrained(folder, overwrite=True)
    assert is_same(read(folder), other)
    assert os.listdir(folder.parent) == ["saved"]


def test_what_was_not_saved_by_us_is_never_replaced(classifier, tmp_path, folder):
    (folder / "thesis.txt").write_text("years of work")
    home = tmp_path / "home"
    home.mkdir()
    (home / "letter.txt").write_text("dear")
    for target in (folder, home):
        before = tree(tmp_path)
        with pytest.raises(ModelSaveError, match="not overwritten"):
            classifier.save_pretrained(target, overwrite=True)
        assert tree(tmp_path) == before
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelSaveError, match="is a file"):
        classifier.save_pretrained(tmp_path / "file", overwrite=True)


def test_an_empty_directory_a_new_one_and_a_link_are_written(classifier, tmp_path):
    (tmp_path / "empty").mkdir()
    classifier.save_pretrained(tmp_path / "empty")
    classifier.save_pretrained(str(tmp_path / "a" / "b" / "new"))
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    classifier.save_pretrained(tmp_path / "link", overwrite=True)
    assert (tmp_path / "link").is_symlink()
    for name in ("empty", "a/b/new", "link"):
        assert is_same(read(tmp_path / name), classifier)


@posix
def test_a_read_only_parent_says_so(classifier, tmp_path, monkeypatch):
    def refuse(path, *args, **kwargs):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(os, "mkdir", refuse)  # root may write anywhere
    with pytest.raises(ModelSaveError, match=r"saved.*Permission denied"):
        classifier.save_pretrained(tmp_path / "saved")
    assert os.listdir(tmp_path) == []


_HOOK: dict = {"react": None}


def _audit(event, args):
    if _HOOK["react"] is not None:
        _HOOK["react"](event, args)


@pytest.fixture
def on_audit():
    """Return what sets a function to be called at each audit event."""
    if "is_set" not in _HOOK:  # it cannot be taken away again
        sys.addaudithook(_audit)
        _HOOK["is_set"] = True
    yield lambda react: _HOOK.update(react=react)
    _HOOK["react"] = None


def is_write(event, args):
    if event == "os.mkdir" and os.path.isdir(args[0]):
        return False  # only to see whether it is there
    if event in ("os.mkdir", "os.rename", "os.chmod", "fsync"):
        return ".saved." in str(args[0])
    if event != "open" or ".saved." not in str(args[0]):
        return False
    return "w" in str(args[1]) or "x" in str(args[1])


def test_a_full_disk_leaves_the_old_save(
    classifier, other, folder, on_audit, monkeypatch
):
    count, fsync = 0, os.fsync

    def audited_fsync(handle):
        sys.audit("fsync", os.readlink(f"/proc/self/fd/{handle}"))
        fsync(handle)

    if os.path.isdir("/proc/self/fd"):
        monkeypatch.setattr(os, "fsync", audited_fsync)

    def fill(event, args):
        nonlocal count
        if is_write(event, args):
            count += 1
            if count == n:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(args[0]))

    n, message = 0, ""
    while message is not None:
        n, count, message = n + 1, 0, None
        on_audit(fill)
        try:
            other.save_pretrained(folder, overwrite=True)
        except ModelSaveError as error:
            message = str(error)
        on_audit(None)
        if message is not None:
            assert "No space left on device" in message
            assert str(folder) in message
            assert os.listdir(folder.parent) == ["saved"]
            if n % 8 == 1:
                assert is_same(read(folder), classifier)
    on_audit(None)
    assert n > 30
    assert is_same(read(folder), other)


def run_python(program, *args, timeout=800):
    root = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{root / 'tests'}"}
    done = subprocess.run(
        [sys.executable, "-c", program, *args],
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@posix
def test_files_then_directory_then_rename_then_parent(
    classifier, original, tmp_path, monkeypatch
):
    done = []
    fsync, rename = os.fsync, os.rename

    def note_fsync(handle):
        done.append(("fsync", os.readlink(f"/proc/self/fd/{handle}")))
        fsync(handle)

    def note_rename(old, new):
        done.append(("rename", str(old), str(new)))
        rename(old, new)

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("only Linux tells the names")
    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "rename", note_rename)
    target = tmp_path / "saved"
    classifier.save_pretrained(target)
    *synced, (_, draft, _), last = done
    paths = [path for _, path in synced]
    assert sorted(paths[:-1]) == sorted(
        f"{draft}/{name}" for name in [*FILES, "1_Pooling"]
    )
    assert paths.index(f"{draft}/1_Pooling/config.json") < paths.index(
        f"{draft}/1_Pooling"
    )
    assert paths[-1] == draft
    assert last == ("fsync", str(tmp_path))
    done.clear()
    classifier.save_pretrained(target, overwrite=True)
    first, second = (step for step in done if step[0] == "rename")
    assert (first[1], second[2]) == (str(target), str(target))
    assert done[-1] == ("fsync", str(tmp_path))


def test_the_manifest_is_written_last(original):
    times = {path.stat().st_mtime_ns: path.name for path in original.rglob("*.*")}
    assert times[max(times)] == "MANIFEST.json"


@posix
def test_what_a_killed_save_left_is_used_and_then_removed(
    classifier, other, folder, tmp_path
):
    draft = tmp_path / ".saved.new-0123abcd"
    shutil.copytree(folder, draft)
    (draft / "MANIFEST.json").unlink()
    folder.rename(tmp_path / ".saved.old-0123abcd")  # between the two renames
    before = tree(tmp_path)
    assert is_same(read(folder), classifier)
    assert tree(tmp_path) == before
    with pytest.raises(ModelSaveError, match="overwrite=True"):
        other.save_pretrained(folder)
    assert os.listdir(tmp_path) == ["saved"]
    assert is_same(read(folder), classifier)


# Saves that fail halfway; then saves over and over, killed at the nth event that Python
# audits; and each time a look at what is there. Forks, so that only one process has to
# import everything.
KILLER = """
import os, random, resource, signal, sys, threading, time, warnings
import torch
from sktransformers import TransformerClassifier
from saved_models import predictions
from sktransformers.exceptions import ModelSaveError
warnings.simplefilter("ignore")
torch.set_num_threads(1)
first, second, target, n_points = *sys.argv[1:4], int(sys.argv[4])
classifiers = [TransformerClassifier.from_pretrained(p) for p in (first, second)]
expected = [predictions(c) for c in classifiers]
classifiers[0].save_pretrained(target)
state, rng = {"left": None, "count": 0}, random.Random(0)
def audit(event, args):
    if event.startswith(("os.", "shutil.", "fcntl.", "open", "tempfile.")):
        state["count"] += 1
        if state["left"] is not None and state["count"] >= state["left"]:
            state["left"] = None  # for this is an event, too
            os.kill(os.getpid(), 9)
sys.addaudithook(audit)
state["count"] = 0
classifiers[1].save_pretrained(target, overwrite=True)
n_events, seen, now = state["count"], [], 1
if not os.fork():  # a write that fails halfway
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    for limit in (0, 50, 400, 3_000, 20_000):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        try:
            classifiers[0].save_pretrained(target, overwrite=True)
        except ModelSaveError as error:
            assert target in str(error) and "File too large" in str(error), error
        else:
            raise AssertionError(limit)
    os._exit(0)
assert os.wait()[1] == 0
start = time.perf_counter()
classifiers[0].save_pretrained(target, overwrite=True)
seconds, now = time.perf_counter() - start, 0
n_late = 60 if n_points > 100 else 39
late = range(n_events - n_late, n_events + 1)  # all that follows the last file
points = [*late, *(rng.randint(1, n_events) for _ in range(n_points))]
n_aside = 0
for place, point in enumerate(points):
    if place < len(late):  # no leftovers to remove first: the events are those counted
        classifiers[now].save_pretrained(target, overwrite=True)
    child = os.fork()
    if not child:
        state["count"] = 0
        if place < len(late) or place % 2:
            state["left"] = point
        else:
            delay = rng.random() * seconds
            threading.Timer(delay, os.kill, (os.getpid(), 9)).start()
        classifiers[1 - now].save_pretrained(target, overwrite=True)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert status in (0, 9), status
    n_aside += not os.path.exists(target)
    found = predictions(TransformerClassifier.from_pretrained(target))
    which = [(found == e).all() for e in expected]
    assert sum(which) == 1, point
    if status == 9:
        seen.append(which.index(True) != now)
    now = which.index(True)
classifiers[0].save_pretrained(target, overwrite=True)
parent = os.path.dirname(target)
assert os.listdir(parent) == [os.path.basename(target)], os.listdir(parent)
print(sum(seen), len(seen) - sum(seen), n_aside)
"""


@posix
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "n_points",
    [pytest.param(10, id="50"), pytest.param(439, id="500", marks=pytest.mark.slow)],
)
def test_a_killed_save_leaves_the_old_or_the_new(n_points, original, other, tmp_path):
    other.save_pretrained(tmp_path / "other")
    (tmp_path / "models").mkdir()
    target = tmp_path / "models" / "saved"
    args = original, tmp_path / "other", target, n_points
    n_new, n_old, n_aside = map(int, run_python(KILLER, *map(str, args)).split())
    assert min(n_new, n_old, n_aside) > 0


def test_of_saves_at_once_one_wins_whole(classifier, other, tmp_path):
    errors, barrier = [], threading.Barrier(4)
    target = tmp_path / "saved"

    def save(estimator):
        barrier.wait()
        for _ in range(3):
            try:
                estimator.save_pretrained(target, overwrite=True)
                found = read(target)
                assert is_same(found, classifier) or is_same(found, other)
            except BaseException as error:
                errors.append(error)

    threads = [
        threading.Thread(target=save, args=(e,)) for e in [classifier, other] * 2
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert os.listdir(tmp_path) == ["saved"]


def test_of_saves_that_must_not_overwrite_one_wins(classifier, other, tmp_path):
    results, barrier = [], threading.Barrier(4)

    def save(estimator):
        barrier.wait()
        try:
            estimator.save_pretrained(tmp_path / "saved")
            results.append("saved")
        except ModelSaveError:
            results.append("refused")

    threads = [
        threading.Thread(target=save, args=(e,)) for e in [classifier, other] * 2
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["refused"] * 3 + ["saved"]
    found = read(tmp_path / "saved")
    assert is_same(found, classifier) or is_same(found, other)
    assert os.listdir(tmp_path) == ["saved"]


@posix
def test_an_interrupted_save_leaves_nothing(classifier, folder, on_audit, other):
    def interrupt(event, args):
        if event == "os.chmod" and ".saved." in str(args[0]):
            raise KeyboardInterrupt

    on_audit(interrupt)
    with pytest.raises(KeyboardInterrupt):
        other.save_pretrained(folder, overwrite=True)
    on_audit(None)
    assert os.listdir(folder.parent) == ["saved"]
    assert is_same(read(folder), classifier)


# Chance

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(
        ["evil_module.Evil", "../x", "/etc/passwd", "auto_map", "lora_A"]
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


def nodes(value, path=()):
    """Return the paths of all that a JSON value holds."""
    items = enumerate(value) if isinstance(value, list) else ()
    items = value.items() if isinstance(value, dict) else items
    found = [path] if path else []
    for key, inner in items:
        found += nodes(inner, (*path, key))
    return found


def mutate(folder, data):
    """Spoil one file; its manifest may be made to fit."""
    name = data.draw(st.sampled_from(FILES))
    path = folder / name
    kinds = ["bytes", "delete", "swap", "add"] + ["json"] * 6 * name.endswith(".json")
    kind = data.draw(st.sampled_from(kinds))
    if kind == "bytes":
        content = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(
                st.integers(0, 255)
            )
        path.write_bytes(content)
    elif kind == "delete":
        path.unlink()
    elif kind == "swap":
        shutil.copy(folder / data.draw(st.sampled_from(FILES)), folder / "x.json")
        (folder / "x.json").replace(path)
    elif kind == "add":
        suffix = data.draw(
            st.sampled_from([".py", ".bin", ".json", ".safetensors", ""])
        )
        (folder / f"more{suffix}").write_bytes(data.draw(st.binary(max_size=64)))
    else:
        content = json.loads(path.read_text())
        # Numbers may ask for a model that no memory holds: weights do not fit, then.
        places = nodes(content)
        *parents, last = data.draw(st.sampled_from(places))
        parent = content
        for key in parents:
            parent = parent[key]
        if data.draw(st.booleans()) and isinstance(parent, dict):
            parent[data.draw(st.text(max_size=8))] = parent.pop(last)
        else:
            parent[last] = data.draw(json_values)
        path.write_text(json.dumps(content))
    if name != "MANIFEST.json" and data.draw(st.booleans()):
        with contextlib.suppress(ModelFormatError):
            seal(folder)


def fuzz(original, folder, data):
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(original, folder)
    mutate(folder, data)
    before = tree(folder.parent)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = read(folder)
        assert isinstance(found, TransformerClassifier)
    except SktransformersError:
        pass
    assert tree(folder.parent) == before


@pytest.mark.parametrize(
    "n_examples",
    [pytest.param(25, id="25"), pytest.param(500, id="500", marks=pytest.mark.slow)],
)
@pytest.mark.timeout(600)
def test_of_spoiled_directories_only_our_errors(n_examples, original, tmp_path, trap):
    @hypothesis.settings(
        max_examples=n_examples,
        deadline=None,
        database=None,
        derandomize=n_examples == 25,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(st.data())
    def check(data):
        fuzz(original, tmp_path / "fuzzed" / "saved", data)

    (tmp_path / "fuzzed").mkdir()
    check()


def test_a_save_cannot_switch_on_the_code_of_strangers(folder):
    def ask(state):
        state["parameters"]["trust_remote_code"] = True

    edit(folder / "sktransformers.json", ask)
    assert read(folder).trust_remote_code is False


def test_a_pickle_of_what_was_loaded_does_not_say_where_from(folder):
    found = read(folder)
    assert str(folder).encode() not in pickle.dumps(found)
    assert str(folder) not in repr(found) + found._repr_html_()
