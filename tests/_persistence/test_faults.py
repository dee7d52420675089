"""Tests that a manipulated or damaged directory runs no code and raises our errors."""

import contextlib
import json
import pickle
import re
import shutil
import sys
import warnings

import hypothesis
import pytest
import torch
from hypothesis import strategies as st
from saved_models import FILES, X, edit, save_head, seal, tree

from sktransformers import TransformerClassifier
from sktransformers._models import hub
from sktransformers.exceptions import ModelFormatError, SktransformersError

read = TransformerClassifier.from_pretrained


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
        ("sktransformers.json", {"task": {"kind": "evil_module.Evil"}}),
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
    if name in FILES and name != "MANIFEST.json":
        seal(folder)
        with pytest.raises(ModelFormatError, match=re.escape(str(folder))):
            read(folder)


def test_a_pickle_trained_elsewhere_does_not_run(tmp_path, trap):
    folder = tmp_path / "model"
    save_head(folder, "SequenceClassification", ["a", "b"])
    (folder / "model.safetensors").unlink()
    torch.save({"a": Payload()}, folder / "pytorch_model.bin")
    with pytest.raises(ModelFormatError, match="cannot be read"):
        read(folder)


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
