"""Tests of sktransformers.json: parameters, labels and other attributes."""

import json
import re
from pathlib import Path

import hypothesis
import numpy as np
import pandas as pd
import pytest
from hypothesis import strategies as st
from saved_models import PARAMS, X, Y, edit, read_again, seal

from sktransformers import TransformerClassifier
from sktransformers._json import decode, encode
from sktransformers.exceptions import ModelFormatError

read = TransformerClassifier.from_pretrained


# What is kept


def test_a_parameter_that_came_later_has_its_default(saved, tmp_path):
    estimator, _ = saved("pooled")
    estimator.save_pretrained(tmp_path / "saved")
    path = tmp_path / "saved" / "sktransformers.json"
    edit(path, lambda state: state["parameters"].pop("warmup_ratio") and None)
    with pytest.raises(ModelFormatError, match="warmup_ratio"):
        read_again(estimator, tmp_path / "saved")
    edit(path, lambda state: state["versions"].update(sktransformers="0.0.1"))
    again = read_again(estimator, tmp_path / "saved")
    assert again.get_params() == estimator.get_params()
    edit(path, lambda state: state["parameters"].update(tomorrow=1))
    with pytest.raises(ModelFormatError, match="tomorrow"):
        read_again(estimator, tmp_path / "saved")


@pytest.mark.parametrize(
    "labels",
    [
        pytest.param(np.array(["a", "bcd"]), id="str"),
        pytest.param(np.array(["a", "b\ud800c"], dtype=object), id="object-of-str"),
        pytest.param(np.array([np.str_("a"), np.str_("b")], object), id="numpy-str"),
        pytest.param(pd.Series(["x", "y"], dtype="category"), id="category"),
        pytest.param(pd.Series(["x", "y"], dtype="string"), id="pandas-string"),
        pytest.param(np.array([False, True]), id="bool"),
        *(np.array([3, 7], dtype=f"{k}{n}") for k in ("int", "uint") for n in (8, 64)),
        pytest.param(np.array([-(2**31), 2**31 - 1], dtype="int32"), id="int32"),
        pytest.param(np.array([0, 2**16 - 1], dtype="uint16"), id="uint16"),
        pytest.param(np.array([1.0, 2.0]), id="float"),
        pytest.param(np.array([1.0, 2.0], dtype="float32"), id="float32"),
    ],
)
def test_labels_keep_values_and_dtype(labels, tiny_model, tmp_path):
    classifier = TransformerClassifier(
        tiny_model, trainable="head", device="cpu", pooling="cls"
    )
    y = pd.concat([labels] * 4) if hasattr(labels, "iloc") else np.tile(labels, 4)
    classifier.fit(X[:8], y).save_pretrained(tmp_path / "saved")
    classes = TransformerClassifier.from_pretrained(tmp_path / "saved").classes_
    assert classes.dtype == classifier.classes_.dtype
    assert classes.tolist() == classifier.classes_.tolist()
    assert list(map(type, classes)) == [
        str if t is np.str_ and classes.dtype == object else t
        for t in map(type, classifier.classes_)
    ]


def test_names_and_number_of_columns_are_kept(tiny_model, tmp_path):
    frame = pd.DataFrame({"title": X, "body": X[::-1]})
    classifier = TransformerClassifier(tiny_model, **PARAMS).fit(frame, Y)
    classifier.save_pretrained(tmp_path / "saved")
    again = TransformerClassifier.from_pretrained(tmp_path / "saved")
    assert again.n_features_in_ == 2
    assert again.feature_names_in_.tolist() == ["title", "body"]
    assert again.feature_names_in_.dtype == object
    assert np.array_equal(again.predict(frame), classifier.predict(frame))
    with pytest.raises(ValueError, match="feature names"):
        again.predict(frame.rename(columns={"body": "text"}))


def test_parameters_of_every_kind_are_kept(saved, tmp_path):
    estimator, folder = saved("adapter")
    given = {
        "model": Path(estimator.model),
        "class_weight": {np.str_("neg"): 1.5, "pos": np.float32(2)},
        "lora_target_modules": ("query", "value"),
        "random_state": np.int64(3),
        "learning_rate": 1 / 3,
    }
    changed = read_again(estimator, folder).set_params(**given)
    changed.save_pretrained(tmp_path / "saved")
    params = read_again(estimator, tmp_path / "saved").get_params()
    assert params == {**changed.get_params(), "model": estimator.model}
    assert type(params["lora_target_modules"]) is tuple
    assert type(params["random_state"]) is int


@pytest.mark.parametrize("state", [np.random.RandomState(0)], ids=["RandomState"])
def test_what_json_cannot_hold_is_refused_and_named(state, saved, tmp_path):
    estimator, folder = saved("pooled")
    other = read_again(estimator, folder).set_params(random_state=state)
    with pytest.raises(ModelFormatError, match=r"set_params\(random_state=None\)"):
        other.save_pretrained(tmp_path / "saved")
    assert list(tmp_path.iterdir()) == []


plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4)
any_value = st.recursive(
    plain | st.just("__type__"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(plain | st.just("__type__"), inner, max_size=3)
    ),
    max_leaves=6,
)


@hypothesis.given(any_value)
@hypothesis.settings(database=None, derandomize=True)
def test_values_that_json_lacks_are_read_as_they_were(value):
    encoded = json.loads(json.dumps(encode(value), allow_nan=False))
    assert repr(decode(encoded, "here")) == repr(value)


def test_another_estimator_is_named(saved):
    _, folder = saved("tagger")
    with pytest.raises(ModelFormatError, match=r"TransformerTagger\.from_pretrained"):
        TransformerClassifier.from_pretrained(folder)


# What is refused


def keys_of(state, path=()):
    """Yield the path of each key of an object."""
    for key, value in state.items() if isinstance(state, dict) else ():
        yield (*path, key)
        if key not in ("history_", "versions"):
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
        (("format",), 1),
        (("estimator",), "os.system"),
        (("estimator",), "TransformerTagger"),
        (("parameters", "batch_size"), "many"),
        (("parameters", "max_epochs"), {"__type__": "dict", "value": [[[], 1]]}),
        (("fitted", "_n_columns"), True),
        (("fitted", "_n_columns"), None),
        (("fitted", "history_"), [{"epoch": "one"}]),
        (("languages",), {"chat_template": "x"}),
        (("languages",), {"src_lang": "de"}),
        (("task", "kind"), "texts"),
        (("task", "classes", "__type__"), "V8"),
        (("task", "classes", "__type__"), "|O8"),
        (("task", "classes", "value"), ["neg", 1]),
        (("task", "classes", "value"), ["neg", "neg"]),
        (("task", "classes", "value"), ["neg", "longer"]),
        (("task", "classes", "value"), []),
        (("model", "kind"), "language"),
        (("model", "pooling"), "sum"),
        (("model", "dtype"), "float8"),
        (("adapter",), {"rank": 2}),
        (("prompt_format",), {}),
        (("fitted", "_checkpoint_name"), {"__type__": "tuple", "value": [1, None]}),
        (("fitted", "feature_names_in_"), ["a"]),
        (("parameters", "learning_rate"), {"__type__": "float"}),
        (("parameters", "learning_rate"), {"__type__": "complex", "value": "1j"}),
        (("parameters", "class_weight"), {"__type__": "dict", "value": [1]}),
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


def test_an_error_says_where_in_the_file_it_is(folder):
    path = folder / "sktransformers.json"
    edit(path, lambda state: state["fitted"].update(history_=[{"epoch": "one"}]))
    with pytest.raises(ModelFormatError, match=r"json: Expected.*\$\.fitted\.history_"):
        read(folder)


def test_a_save_cannot_switch_on_the_code_of_strangers(folder):
    def ask(state):
        state["parameters"]["trust_remote_code"] = True

    edit(folder / "sktransformers.json", ask)
    assert read(folder).trust_remote_code is False
