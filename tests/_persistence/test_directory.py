"""Tests that a directory is written completely or not at all."""

import errno
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from saved_models import FILES, is_same, tree

from sktransformers import TransformerClassifier
from sktransformers.exceptions import ModelSaveError

posix = pytest.mark.skipif(os.name == "nt", reason="what POSIX promises")
read = TransformerClassifier.from_pretrained


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
    root = Path(__file__).parents[2]
    environment = {
        **os.environ,
        "PYTHONPATH": f"{root}{os.pathsep}{root / 'tests' / 'helpers'}",
    }
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
        f"{draft}/{name}" for name in [*FILES, "README.md", "1_Pooling"]
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
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "n_points",
    [pytest.param(10, id="50"), pytest.param(439, id="500")],
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
