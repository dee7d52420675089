"""save_pretrained, from_pretrained and push_to_hub: what goes in comes out."""

import json
import logging
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from conftest import assert_close, make_sentences, save_tiny_model
from safetensors.torch import load_file, save_file
from saved_models import (
    MAKERS,
    PARAMS,
    WORDS,
    X,
    Y,
    edit,
    predictions,
    save_head,
    save_writer,
    seal,
)
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from sktransformers import (
    TransformerClassifier,
    TransformerGenerator,
    TransformerRegressor,
    TransformerTagger,
)
from sktransformers.exceptions import ModelFormatError, ModelNotFoundError
from sktransformers.models import hub
from sktransformers.models.files import quiet

ADAPTERS = [kind for kind in MAKERS if kind.startswith("adapter")]
WHOLE = [kind for kind in MAKERS if kind not in ADAPTERS]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Return what makes a fitted estimator of a kind, and the directory it is in."""
    found = {}

    def get(kind):
        if kind not in found:
            folder = tmp_path_factory.mktemp(kind)
            estimator = MAKERS[kind](folder / "base")
            estimator.save_pretrained(folder / "saved")
            found[kind] = estimator, folder / "saved"
        return found[kind]

    return get


def read(estimator, folder, **options):
    return type(estimator).from_pretrained(folder, **options)


# The same estimator


@pytest.mark.parametrize("kind", MAKERS)
def test_what_is_read_is_what_was_saved(kind, saved, capfd):
    estimator, folder = saved(kind)
    capfd.readouterr()
    again = read(estimator, folder)
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
    root = Path(__file__).parents[1]
    path = f"{root}{os.pathsep}{root / 'tests'}"
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
    read(estimator, folder)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_parameter_that_came_later_has_its_default(saved, tmp_path):
    estimator, _ = saved("pooled")
    estimator.save_pretrained(tmp_path / "saved")
    path = tmp_path / "saved" / "sktransformers.json"
    edit(path, lambda state: state["parameters"].pop("warmup_ratio") and None)
    with pytest.raises(ModelFormatError, match="warmup_ratio"):
        read(estimator, tmp_path / "saved")
    edit(path, lambda state: state["versions"].update(sktransformers="0.0.1"))
    again = read(estimator, tmp_path / "saved")
    assert again.get_params() == estimator.get_params()
    edit(path, lambda state: state["parameters"].update(tomorrow=1))
    with pytest.raises(ModelFormatError, match="tomorrow"):
        read(estimator, tmp_path / "saved")


def test_what_was_read_can_be_saved_trained_cloned_and_pickled(saved, tmp_path):
    estimator, folder = saved("pooled")
    again = read(estimator, folder)
    again.save_pretrained(tmp_path / "again")
    third = read(estimator, tmp_path / "again")
    assert np.array_equal(predictions(third), predictions(estimator))
    assert clone(again).get_params() == estimator.get_params()
    unpickled = pickle.loads(pickle.dumps(again))
    assert np.array_equal(predictions(unpickled), predictions(estimator))
    again.set_params(warm_start=True).fit(X, Y)
    assert not np.array_equal(predictions(again), predictions(estimator))


def test_an_adapter_goes_on_training_as_it_would_have(saved, tmp_path):
    estimator, folder = saved("adapter")
    again = read(estimator, folder).set_params(warm_start=True).fit(X, Y)
    frozen = dict(estimator.model_.encoder.named_parameters())
    for name, weights in again.model_.encoder.named_parameters():
        if "lora_" not in name:
            assert torch.equal(weights, frozen[name]), name


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
    changed = read(estimator, folder).set_params(**given)
    changed.save_pretrained(tmp_path / "saved")
    params = read(estimator, tmp_path / "saved").get_params()
    assert params == {**changed.get_params(), "model": estimator.model}
    assert type(params["lora_target_modules"]) is tuple
    assert type(params["random_state"]) is int


@pytest.mark.parametrize("state", [np.random.RandomState(0)], ids=["RandomState"])
def test_what_json_cannot_hold_is_refused_and_named(state, saved, tmp_path):
    estimator, folder = saved("pooled")
    other = read(estimator, folder).set_params(random_state=state)
    with pytest.raises(ModelFormatError, match=r"set_params\(random_state=None\)"):
        other.save_pretrained(tmp_path / "saved")
    assert list(tmp_path.iterdir()) == []


def test_another_estimator_is_named(saved):
    _, folder = saved("tagger")
    with pytest.raises(ModelFormatError, match=r"TransformerTagger\.from_pretrained"):
        TransformerClassifier.from_pretrained(folder)


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
    assert read(estimator, folder, device="auto").device == "auto"
    fast = read(estimator, folder)
    fast._accelerated = object()
    fast.save_pretrained(tmp_path / "saved")
    assert "_accelerated" not in vars(read(estimator, tmp_path / "saved"))


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


# A Hugging Face checkpoint


@pytest.fixture
def load_reports(caplog):
    """Return what transformers says while it loads."""
    logger = logging.getLogger("transformers")
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)


@pytest.mark.parametrize("kind", ["pooled", "decoder", "float64", "numbers", "tagger"])
def test_transformers_loads_the_encoder_without_a_word(kind, saved, load_reports):
    estimator, folder = saved(kind)
    encoder, report = transformers.AutoModel.from_pretrained(
        folder, output_loading_info=True
    )
    assert not any(report.values())
    assert not [r for r in load_reports.records if r.levelno >= logging.WARNING]
    expected = estimator.model_.encoder.state_dict()
    assert encoder.state_dict().keys() == expected.keys()
    assert all(torch.equal(v, expected[k]) for k, v in encoder.state_dict().items())
    assert encoder.dtype == estimator.model_.encoder.dtype


def test_transformers_loads_the_half_of_an_encoder_decoder(saved):
    estimator, folder = saved("half")
    with quiet():
        whole = transformers.AutoModel.from_pretrained(folder)
        half = transformers.T5EncoderModel.from_pretrained(folder)
    expected = estimator.model_.encoder.state_dict()
    for encoder in (whole.get_encoder(), half.get_encoder()):
        found = encoder.state_dict()
        assert all(torch.equal(found[k], v) for k, v in expected.items())


@pytest.mark.parametrize(
    ("kind", "pooling"), [("pooled", "mean_tokens"), ("decoder", "lasttoken")]
)
def test_sentence_transformers_is_told_how_to_pool(kind, pooling, saved):
    estimator, folder = saved(kind)
    settings = json.loads((folder / "1_Pooling/config.json").read_text())
    width = settings.pop("word_embedding_dimension")
    assert width == estimator.transform(X[:1]).shape[1]
    assert [k for k, v in settings.items() if v] == [f"pooling_mode_{pooling}"]
    modules = json.loads((folder / "modules.json").read_text())
    assert [m["path"] for m in modules] == ["", "1_Pooling"]
    assert [m["type"].rsplit(".")[-1] for m in modules] == ["Transformer", "Pooling"]
    length = json.loads((folder / "sentence_bert_config.json").read_text())
    assert length["max_seq_length"] == 64
    with quiet():
        assert transformers.AutoTokenizer.from_pretrained(folder).pad_token


@pytest.mark.parametrize("kind", ["pooled", "decoder", "half"])
def test_sentence_transformers_gives_the_same_embeddings(kind, saved):
    package = pytest.importorskip("sentence_transformers")
    estimator, folder = saved(kind)
    found = package.SentenceTransformer(str(folder), device="cpu").encode(X)
    assert_close(found, estimator.transform(X))


def plain_logits(auto_class, folder, texts, **options):
    with quiet():
        model = auto_class.from_pretrained(folder).eval()
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        rows = [tokenizer(t, return_tensors="pt", **options) for t in texts]
        return model, [model(**row).logits[0].numpy() for row in rows]


def test_plain_transformers_gives_the_same_numbers_and_labels(saved):
    auto = transformers.AutoModelForSequenceClassification
    estimator, folder = saved("head")
    model, logits = plain_logits(auto, folder, X)
    assert model.config.id2label == {0: "neg", 1: "pos"}
    found = torch.from_numpy(np.stack(logits)).softmax(-1).numpy()
    assert_close(found, estimator.predict_proba(X))
    estimator, folder = saved("labels")
    model, logits = plain_logits(auto, folder, X)
    assert model.config.problem_type == "multi_label_classification"
    found = torch.from_numpy(np.stack(logits)).sigmoid().numpy()
    assert_close(found, estimator.predict_proba(X))
    estimator, folder = saved("numbers-head")
    model, logits = plain_logits(auto, folder, X)
    assert model.config.problem_type == "regression"
    assert_close(np.stack(logits), estimator.predict(X))


def test_a_pipeline_gives_the_same_labels(saved):
    estimator, folder = saved("head")
    with quiet():
        pipe = transformers.pipeline("text-classification", str(folder), device="cpu")
        found = pipe(X)
    assert [row["label"] for row in found] == estimator.predict(X).tolist()
    top = estimator.predict_proba(X).max(axis=1)
    assert_close([row["score"] for row in found], top)


def test_a_pipeline_gives_the_same_tags(saved):
    estimator, folder = saved("tagger-head")
    auto = transformers.AutoModelForTokenClassification
    model, logits = plain_logits(auto, folder, WORDS, is_split_into_words=True)
    assert model.config.id2label == {0: "B-GOOD", 1: "O"}
    for row, expected in zip(logits, estimator.predict_proba(WORDS), strict=True):
        found = torch.from_numpy(row[1:-1]).softmax(-1).numpy()
        assert_close(found, expected)
    with quiet():
        pipe = transformers.pipeline("token-classification", str(folder), device="cpu")
        found = pipe(X, ignore_labels=[])
    plain = [tag for rows in found for tag in (row["entity"] for row in rows)]
    best = np.concatenate(estimator.predict_proba(WORDS)).argmax(axis=1)
    assert plain == estimator.classes_[best].tolist()


def test_plain_transformers_writes_the_same(saved):
    estimator, folder = saved("writer")
    with quiet():
        model = transformers.AutoModelForCausalLM.from_pretrained(folder)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    for text, expected in zip(X[:6], estimator.predict(X[:6]), strict=True):
        ids = tokenizer(text, return_tensors="pt")
        written = model.generate(**ids)[0, ids["input_ids"].shape[1] :]
        assert tokenizer.decode(written, skip_special_tokens=True) == expected


def test_how_a_pair_samples_is_saved(saved):
    _, folder = saved("pair-writer")
    with quiet():
        model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder)
    found = model.generation_config
    assert (found.do_sample, found.top_k, found.max_new_tokens) == (True, 5, 4)


def test_a_saved_model_can_be_fine_tuned_by_its_directory(saved):
    _, folder = saved("pooled")
    again = TransformerClassifier(folder, **PARAMS).fit(X, Y)
    assert again.model_.pooling == "mean"


def test_a_gguf_file_is_saved_as_plain_weights(tmp_path):
    for package in ("gguf", "accelerate"):
        pytest.importorskip(package)
    from test_generative_models import write_gguf

    write_gguf(tmp_path / "tiny.gguf")
    texts = ["ab abc", "abcd"]
    generator = TransformerGenerator(tmp_path / "tiny.gguf", **PARAMS, max_new_tokens=4)
    generator.fit(texts, texts).save_pretrained(tmp_path / "saved")
    again = TransformerGenerator.from_pretrained(tmp_path / "saved")
    assert np.array_equal(again.predict(texts), generator.predict(texts))
    with quiet():
        transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
    foreign = TransformerGenerator.from_pretrained(tmp_path / "tiny.gguf")
    assert foreign.predict(texts).shape == (2,)


# Adapters


@pytest.mark.parametrize("kind", ADAPTERS)
def test_only_the_adapter_is_saved(kind, saved):
    estimator, folder = saved(kind)
    names = {path.name for path in folder.iterdir()}
    assert names - {"head.safetensors"} == {
        *("MANIFEST.json", "README.md", "sktransformers.json"),
        *("adapter_config.json", "adapter_model.safetensors"),
    }
    base = json.loads((folder / "sktransformers.json").read_text())["base"]
    assert base["name"] == estimator.model
    assert re.fullmatch("[0-9a-f]{32}", base["weights_hash"])


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of peft's, for transformers
@pytest.mark.parametrize("kind", ADAPTERS)
def test_peft_reads_the_adapter(kind, saved):
    peft = pytest.importorskip("peft")
    estimator, folder = saved(kind)
    auto, options = {
        "adapter": (transformers.AutoModel, {}),
        "adapter-head": (
            transformers.AutoModelForSequenceClassification,
            {"num_labels": 2},
        ),
        "adapter-writer": (transformers.AutoModelForCausalLM, {}),
    }[kind]
    with quiet():
        base = auto.from_pretrained(estimator.model, **options)
        model = peft.PeftModel.from_pretrained(base, folder).eval()
        tokenizer = transformers.AutoTokenizer.from_pretrained(estimator.model)
    ids = tokenizer(X[0], return_tensors="pt")
    ours = estimator.model_.encoder if kind == "adapter" else estimator.model_.model
    with torch.no_grad():
        found, expected = model(**ids), ours(**ids)
    for name in ("last_hidden_state", "logits"):
        if name in expected:
            assert_close(found[name], expected[name])


def test_an_adapter_refuses_another_base(tmp_path):
    base = save_tiny_model(tmp_path / "base")
    classifier = TransformerClassifier(base, **PARAMS, lora_rank=2).fit(X, Y)
    classifier.save_pretrained(tmp_path / "saved")
    save_tiny_model(tmp_path / "base", initializer_range=0.03)
    with pytest.raises(ModelFormatError, match="has changed since"):
        TransformerClassifier.from_pretrained(tmp_path / "saved")
    path = tmp_path / "base" / "tokenizer.json"
    path.write_text(path.read_text().replace('"film"', '"movie"'))
    with pytest.raises(ModelFormatError, match="another tokenizer"):
        TransformerClassifier.from_pretrained(tmp_path / "saved")
    (tmp_path / "base").rename(tmp_path / "elsewhere")
    with pytest.raises(ModelNotFoundError, match="no such directory"):
        TransformerClassifier.from_pretrained(tmp_path / "saved")


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "head.safetensors"])
def test_an_adapter_must_have_all_weights_and_no_others(name, saved, tmp_path):
    estimator, _ = saved("adapter")
    folder = tmp_path / "saved"
    estimator.save_pretrained(folder)
    tensors = load_file(folder / name)
    first = next(iter(tensors))
    for changed in (
        {k: v for k, v in tensors.items() if k != first},
        {**tensors, "more": torch.zeros(1)},
        {**tensors, first: torch.zeros(1)},
    ):
        save_file(changed, folder / name)
        seal(folder)
        with pytest.raises(ModelFormatError, match=re.escape(str(folder))):
            read(estimator, folder)


def test_a_merged_adapter_is_a_plain_model(saved, tmp_path):
    estimator, folder = saved("adapter")
    merged = read(estimator, folder).merge_adapter()
    merged.save_pretrained(tmp_path / "saved")
    again = read(estimator, tmp_path / "saved")
    assert np.array_equal(predictions(again), predictions(merged))
    assert (tmp_path / "saved" / "model.safetensors").exists()


# Models that were trained elsewhere


def test_labels_become_sorted_classes(tmp_path):
    names = ["pos", "neg", "meh"]
    folder = save_head(tmp_path / "model", "SequenceClassification", names)
    classifier = TransformerClassifier.from_pretrained(folder, device="cpu")
    assert classifier.classes_.tolist() == ["meh", "neg", "pos"]
    with quiet():
        pipe = transformers.pipeline("text-classification", folder, device="cpu")
        expected = [row["label"] for row in pipe(X)]
    assert classifier.predict(X).tolist() == expected
    assert classifier.model == folder
    assert (classifier.history_, classifier.n_epochs_) == ([], 0)
    classifier.save_pretrained(tmp_path / "saved")
    again = TransformerClassifier.from_pretrained(tmp_path / "saved")
    assert again.predict(X).tolist() == expected


def test_labels_without_names_become_integers(tmp_path):
    labels = ["LABEL_0", "LABEL_1", "LABEL_2"]
    folder = save_head(tmp_path / "model", "SequenceClassification", labels)
    classifier = TransformerClassifier.from_pretrained(folder)
    assert classifier.classes_.tolist() == [0, 1, 2]


def test_many_labels_become_indicators(tmp_path):
    folder = save_head(
        tmp_path / "model",
        "SequenceClassification",
        ["a", "b", "c"],
        problem_type="multi_label_classification",
    )
    classifier = TransformerClassifier.from_pretrained(folder)
    assert classifier.predict(X).shape == (len(X), 3)


def test_numbers_are_told_in_their_units(tmp_path):
    folder = save_head(tmp_path / "model", "SequenceClassification", ["stars"])
    regressor = TransformerRegressor.from_pretrained(folder, device="cpu")
    auto = transformers.AutoModelForSequenceClassification
    _, logits = plain_logits(auto, folder, X)
    assert_close(regressor.predict(X), np.concatenate(logits))
    with pytest.raises(
        ModelFormatError, match=r"TransformerRegressor\.from_pretrained"
    ):
        TransformerClassifier.from_pretrained(folder)


def test_pairs_are_read_where_asked_for(tmp_path):
    folder = save_head(tmp_path / "model", "SequenceClassification", ["no", "yes"])
    classifier = TransformerClassifier.from_pretrained(folder, n_columns=2)
    assert len(classifier.predict(list(zip(X, X[::-1], strict=True)))) == len(X)


@pytest.mark.parametrize(
    ("labels", "scheme"),
    [
        (["O", "I-PER", "B-PER"], "BIO"),
        (["O", "B-A", "I-A", "E-A", "S-A"], "BIOES"),
        (["O", "B-A", "I-A", "L-A", "U-A"], "BILOU"),
        (["O", "I-PER", "I-LOC"], "IO"),
        (["NOUN", "VERB"], "plain"),
    ],
)
def test_tags_tell_their_scheme(labels, scheme, tmp_path):
    folder = save_head(tmp_path / "model", "TokenClassification", labels)
    tagger = TransformerTagger.from_pretrained(folder, device="cpu")
    assert tagger.scheme_ == scheme
    assert tagger.classes_.tolist() == sorted(labels)
    assert list(map(len, tagger.predict(WORDS))) == list(map(len, WORDS))


@pytest.mark.parametrize("kind", ["gpt2", "t5"])
def test_a_model_that_writes_needs_no_fit(kind, tmp_path):
    folder = save_writer(tmp_path / "model", kind)
    generator = TransformerGenerator.from_pretrained(folder, device="cpu")
    generator.set_params(max_new_tokens=4)
    fitted = TransformerGenerator(folder, max_epochs=0, max_new_tokens=4, device="cpu")
    assert np.array_equal(generator.predict(X[:6]), fitted.fit(X).predict(X[:6]))
    generator.save_pretrained(tmp_path / "saved")
    again = TransformerGenerator.from_pretrained(tmp_path / "saved")
    assert np.array_equal(again.predict(X[:6]), generator.predict(X[:6]))


@pytest.mark.parametrize(
    "cls", [TransformerClassifier, TransformerRegressor, TransformerTagger]
)
def test_without_a_trained_head_it_says_to_fit(cls, tiny_model):
    with pytest.raises(ModelFormatError, match=r"no trained head.*\.fit\(X, y\)"):
        cls.from_pretrained(tiny_model)


def test_a_head_whose_weights_are_missing_is_not_drawn_at_random(tmp_path):
    folder = save_head(tmp_path / "model", "SequenceClassification", ["a", "b"])
    path = tmp_path / "model" / "model.safetensors"
    tensors = load_file(path)
    tensors = {k: v for k, v in tensors.items() if "classifier" not in k}
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(ModelFormatError, match=r"missing.*classifier"):
        TransformerClassifier.from_pretrained(folder)


def test_a_reader_is_no_writer(tiny_model):
    with pytest.raises(ModelFormatError, match="does not write"):
        TransformerGenerator.from_pretrained(tiny_model)


def test_what_is_nowhere_is_not_found(tmp_path):
    with pytest.raises(ModelNotFoundError, match="no such directory"):
        TransformerClassifier.from_pretrained(tmp_path / "nowhere")


# The card


def test_the_card_says_what_was_done_and_nothing_of_the_texts(tiny_model, tmp_path):
    secret = "zanzibar"
    texts = [f"{secret} {text}" for text in X]
    classifier = TransformerClassifier(
        tiny_model, **(PARAMS | {"max_epochs": 2}), early_stopping=True
    ).fit(texts, Y)
    classifier.save_pretrained(tmp_path / "saved")
    for path in (tmp_path / "saved").rglob("*.*"):
        assert secret.encode() not in path.read_bytes(), path
    card = huggingface_hub.ModelCard.load(tmp_path / "saved" / "README.md")
    assert card.data.library_name == "sktransformers"
    assert card.data.pipeline_tag == "text-classification"
    assert card.data.base_model is None  # a path of this machine
    score = classifier.history_[-1]["valid_score"]
    for expected in (
        "TransformerClassifier.from_pretrained",
        "valid_score",
        f"| texts | `{len(texts)}` |",
        f"{score:.4g}",
        '| their names | `"neg", "pos"` |',
        "| learning_rate | `0.01` |",
        f"| torch | `{torch.__version__}` |",
    ):
        assert expected in card.text


def test_a_card_names_a_base_from_the_hub(saved, tmp_path):
    estimator, folder = saved("pooled")
    other = read(estimator, folder)
    other._checkpoint_name = ("org/model", "abc")
    other.save_pretrained(tmp_path / "saved")
    card = huggingface_hub.ModelCard.load(tmp_path / "saved" / "README.md")
    assert card.data.base_model == "org/model"
    assert "| base model's revision | `abc` |" in card.text


# The hub


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
    again = read(estimator, "me/model")
    assert np.array_equal(predictions(again), predictions(estimator))
    edit_link = snapshot / "README.md"
    edit_link.unlink()
    edit_link.symlink_to("/etc/hostname")
    with pytest.raises(ModelFormatError, match="leaves the directory"):
        read(estimator, "me/model")


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
    again = read(estimator, "me/model")
    assert np.array_equal(predictions(again), predictions(estimator))
    files = sorted(
        p.relative_to(snapshot).as_posix() for p in snapshot.rglob("*") if p.is_file()
    )
    assert asked == [
        ("sktransformers.json", None),
        ("MANIFEST.json", "c0ffee"),
        (files, "c0ffee"),
    ]


@pytest.mark.embedded
def test_a_real_model_is_saved_in_a_moment(tmp_path):
    texts, labels = make_sentences(8)
    classifier = TransformerClassifier(trainable="head", device="cpu")
    classifier.fit(texts, labels).save_pretrained(tmp_path / "saved")
    again = TransformerClassifier.from_pretrained(tmp_path / "saved")
    assert np.array_equal(again.predict_proba(texts), classifier.predict_proba(texts))
