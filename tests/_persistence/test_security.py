"""Code, names and secrets: nothing runs, is fetched or told that was not asked for."""

import builtins
import contextlib
import io
import json
import logging
import pickle
import shutil
import sys
import time

import huggingface_hub
import numpy as np
import pytest
import transformers
from safetensors.torch import save_file
from saved_models import NUMBERS, PARAMS, TAGS, X, Y, save_writer
from sklearn.base import clone
from tiny_models import make_word_tokenizer, save_tiny_model
from transformers import dynamic_module_utils

from sktransformers import (
    TransformerClassifier,
    TransformerGenerator,
    TransformerRegressor,
    TransformerTagger,
)
from sktransformers._models import hub
from sktransformers._models.loading import find_checkpoint
from sktransformers.exceptions import ModelFormatError, ModelNotFoundError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_averysecrettoken"


@pytest.fixture(autouse=True)
def network(offline, monkeypatch):
    """Cut the network and close standard input; return what was tried all the same."""

    def refuse(*args, **kwargs):
        offline.append(args)
        raise OSError("no input in this test")

    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stdin", closed)
    monkeypatch.setattr(builtins, "input", refuse)
    return offline


@pytest.fixture
def trap(tmp_path, monkeypatch):
    """Put a module that must not be imported on the path, and in the folder."""
    folder = tmp_path / "trap"
    folder.mkdir()
    (folder / "evil.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(folder)
    yield folder
    assert "evil" not in sys.modules


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """Let transformers keep the code of models in a folder of this test."""
    folder = tmp_path / "modules"
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(folder))
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield folder
    for name in [n for n in sys.modules if n.startswith("transformers_modules")]:
        del sys.modules[name]


CODE = {
    "configuration_tiny.py": """
from transformers import PretrainedConfig

class TinyConfig(PretrainedConfig):
    model_type = "tiny-of-its-own"

    def __init__(self, vocab_size=63, hidden_size=16, **options):
        super().__init__(**options)
        self.vocab_size, self.hidden_size = vocab_size, hidden_size
""",
    "modeling_tiny.py": """
import torch
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput
from .configuration_tiny import TinyConfig

class TinyModel(PreTrainedModel):
    config_class = TinyConfig

    def __init__(self, config):
        super().__init__(config)
        self.embed = torch.nn.Embedding(config.vocab_size, config.hidden_size)
        self.layer = torch.nn.Linear(config.hidden_size, config.hidden_size)
        self.post_init()

    def get_input_embeddings(self):
        return self.embed

    def forward(self, input_ids=None, attention_mask=None, **others):
        hidden = torch.tanh(self.layer(self.embed(input_ids)))
        return BaseModelOutput(last_hidden_state=hidden)
""",
}
AUTO_MAP = {
    "AutoConfig": "configuration_tiny.TinyConfig",
    "AutoModel": "modeling_tiny.TinyModel",
}


def save_model_with_code(folder, auto_map=AUTO_MAP):
    """Save a model of an architecture of its own; return the directory."""
    import torch

    folder.mkdir(parents=True)
    for name, source in CODE.items():
        (folder / name).write_text(source)
    config = {"model_type": "tiny-of-its-own", "auto_map": auto_map}
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer = make_word_tokenizer("bert")
    generator = torch.Generator().manual_seed(0)
    shapes = {
        "embed.weight": (len(tokenizer), 16),
        "layer.weight": (16, 16),
        "layer.bias": (16,),
    }
    weights = {k: torch.randn(s, generator=generator) for k, s in shapes.items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    tokenizer.save_pretrained(folder)
    return str(folder)


def put_in_cache(folder, cache, commit=COMMIT):
    """Make a directory the model someone/tiny in a cache; return its new place."""
    repo = cache / "models--someone--tiny"
    snapshot = repo / "snapshots" / commit
    shutil.copytree(folder, snapshot)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(commit)
    no_modules = repo / ".no_exist" / commit / "modules.json"
    no_modules.parent.mkdir(parents=True)
    no_modules.touch()
    return snapshot


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Return the folder of an empty cache of the hub's models."""
    folder = tmp_path / "cache-of-the-hub"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(folder))
    return folder


# Code in a model


@pytest.mark.parametrize("place", ["directory", "cache"])
def test_code_is_refused_without_a_question(
    place, tiny_model, tmp_path, cache, modules, network
):
    TransformerClassifier(tiny_model, **PARAMS).fit(X, Y)  # imports what takes long
    name = save_model_with_code(tmp_path / "model")
    if place == "cache":
        put_in_cache(name, cache)
        name = "someone/tiny"
    started = time.perf_counter()
    with pytest.raises(ModelFormatError, match=r"code of its own.*trust_remote_code"):
        TransformerClassifier(name, **PARAMS).fit(X, Y)
    assert time.perf_counter() - started < 2
    assert network == []
    assert not modules.exists()


def test_a_known_architecture_is_read_as_such(tmp_path, modules, trap):
    save_tiny_model(tmp_path / "model")
    auto_map = {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}
    _merge(tmp_path / "model" / "config.json", {"auto_map": auto_map})
    auto_map = {"auto_map": {"AutoTokenizer": ["evil.Tokenizer", None]}}
    _merge(tmp_path / "model" / "tokenizer_config.json", auto_map)
    shutil.copy(trap / "evil.py", tmp_path / "model")
    TransformerClassifier(tmp_path / "model", **PARAMS).fit(X, Y).predict(X)
    assert not modules.exists()


def test_code_runs_if_asked_for(tmp_path, modules, network):
    folder = save_model_with_code(tmp_path / "model")
    classifier = TransformerClassifier(folder, trust_remote_code=True, **PARAMS)
    probabilities = classifier.fit(X, Y).predict_proba(X)
    assert type(classifier.model_.encoder).__name__ == "TinyModel"
    assert classifier.score(X, Y) > 0.9
    again = clone(classifier).fit(X, Y)
    np.testing.assert_array_equal(again.predict_proba(X), probabilities)
    pickled = pickle.loads(pickle.dumps(classifier))
    np.testing.assert_array_equal(pickled.predict_proba(X), probabilities)
    assert any(modules.rglob("modeling_tiny.py"))
    assert network == []
    with pytest.raises(ModelFormatError, match="holds no code"):
        classifier.save_pretrained(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()
    small = classifier.set_params(store_backbone=False)
    found = pickle.loads(pickle.dumps(small)).predict_proba(X)
    np.testing.assert_array_equal(found, probabilities)
    with pytest.raises(ModelFormatError):  # it was asked for there, not here
        TransformerClassifier(folder, **PARAMS).fit(X, Y)


@pytest.mark.parametrize(
    "revision", [None, "main", "v1.0", COMMIT[:12], COMMIT.upper()]
)
def test_code_of_the_hub_needs_a_commit(revision, tmp_path, cache, modules, network):
    put_in_cache(save_model_with_code(tmp_path / "model"), cache)
    classifier = TransformerClassifier(
        "someone/tiny", revision=revision, trust_remote_code=True, **PARAMS
    )
    with pytest.raises(ValueError, match="revision must be a commit, 40 hexadecimal"):
        classifier.fit(X, Y)
    assert network == []
    assert not modules.exists()


def test_pinned_code_of_the_hub_runs(tmp_path, cache, modules, network):
    put_in_cache(save_model_with_code(tmp_path / "model"), cache)
    classifier = TransformerClassifier(
        "someone/tiny", revision=COMMIT, trust_remote_code=True, **PARAMS
    )
    assert classifier.fit(X, Y).score(X, Y) > 0.9
    assert network == []


def test_code_that_the_cache_lacks_is_downloaded(tmp_path, cache, modules, monkeypatch):
    model = save_model_with_code(tmp_path / "model")
    snapshot = put_in_cache(model, cache)
    (snapshot / "modeling_tiny.py").unlink()
    asked = []

    def download(name, *, revision, allow_patterns):
        asked.append((name, revision, sorted(allow_patterns)))
        return model

    files = [*CODE, "config.json", "deep/er.py", "modules.json", "model.safetensors"]
    monkeypatch.setattr(hub, "_is_reachable", lambda: True)
    monkeypatch.setattr(
        huggingface_hub.HfApi, "list_repo_files", lambda *_args, **_options: files
    )
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    find_checkpoint("someone/tiny", COMMIT, trust_remote_code=True)
    assert asked == [("someone/tiny", COMMIT, sorted(files))]
    (snapshot / "tokenizer.json").unlink()
    with pytest.raises(ModelFormatError):  # what is not to run is not downloaded
        find_checkpoint("someone/tiny", COMMIT)
    assert not [file for file in asked[1][2] if file.endswith(".py")]


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_code_of_another_repository_is_refused(file, tmp_path, modules, network):
    folder = tmp_path / "model"
    save_model_with_code(folder)
    _merge(folder / file, {"auto_map": {"AutoModel": "other/one--modeling.Model"}})
    with pytest.raises(ModelFormatError, match="code of another repository"):
        find_checkpoint(folder, trust_remote_code=True)
    assert network == []
    assert not modules.exists()


# Names in settings


HOSTILE = {
    "class": ("config.json", {"architectures": ["evil.Model"]}),
    "attention": ("config.json", {"_attn_implementation": "evil/flash-attn"}),
    "attention-name": ("config.json", {"attn_implementation": "evil/a:f"}),
    "experts": ("config.json", {"_experts_implementation": "evil/experts"}),
    "kernels": ("config.json", {"use_kernels": True, "kernel_config": {"x": "evil/x"}}),
    "activation": ("config.json", {"hidden_act": "evil.act"}),
    "format": ("config.json", {"dtype": "evil.dtype"}),
    "quantization": ("config.json", {"quantization_config": {"quant_method": "evil"}}),
    "path": ("config.json", {"_name_or_path": "evil/model", "model_type": "bert"}),
    "kind": ("config.json", {"model_type": "../evil"}),
    "tokenizer": ("tokenizer_config.json", {"tokenizer_class": "evil.Tokenizer"}),
    "tokenizer-map": ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": "evil"}}),
    "tokenizer-file": ("tokenizer_config.json", {"tokenizer_file": "/etc/passwd"}),
    "pooling": ("modules.json", [{"type": "evil.Pooling", "path": "../../evil"}]),
    "adapter": (
        "adapter_config.json",
        {
            "base_model_name_or_path": "evil/model",
            "peft_type": "LORA",
            "auto_mapping": {"parent_library": "evil", "base_model_class": "Model"},
        },
    ),
}


@pytest.mark.parametrize("variant", HOSTILE)
def test_names_in_settings_are_not_imported_or_fetched(
    variant, tmp_path, trap, modules, network, capfd
):
    folder = tmp_path / "model"
    save_tiny_model(folder)
    name, content = HOSTILE[variant]
    if isinstance(content, dict) and (folder / name).exists():
        _merge(folder / name, content)
    else:
        (folder / name).write_text(json.dumps(content))
    shutil.copy(trap / "evil.py", folder)
    with contextlib.suppress(ModelFormatError):  # refused, rather than ignored
        TransformerClassifier(folder, **PARAMS).fit(X, Y).predict(X)
    assert network == []
    assert not modules.exists()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("variant", ["attention", "attention-name"])
@pytest.mark.parametrize("pooling", ["mean", "head"])
def test_attention_is_ours_whatever_a_model_names(variant, pooling, tmp_path, modules):
    save_tiny_model(tmp_path / "model")
    _merge(tmp_path / "model" / "config.json", HOSTILE[variant][1])
    params = PARAMS | {"pooling": pooling}
    classifier = TransformerClassifier(tmp_path / "model", **params).fit(X, Y)
    assert classifier.model_.encoder.config._attn_implementation == "sdpa"


@pytest.mark.parametrize(
    "content",
    [
        {"custom_generate": "evil/generate"},
        {"cache_implementation": "evil.Cache"},
        {"watermarking_config": {"class": "evil.Watermark"}},
        {"compile_config": {"backend": "evil"}},
    ],
    ids=lambda content: next(iter(content)),
)
def test_names_in_settings_of_generation_are_ignored(
    content, tmp_path, trap, modules, network
):
    folder = save_writer(tmp_path / "model", "gpt2")
    _merge(tmp_path / "model" / "generation_config.json", content)
    generator = TransformerGenerator(folder, max_new_tokens=2, **PARAMS)
    with contextlib.suppress(ModelFormatError):  # refused, rather than ignored
        generator.fit(X, Y).predict(X[:2])
    assert network == []
    assert not modules.exists()


def _merge(path, content):
    known = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**known, **content}), "utf-8")


# Without a network


def test_without_a_network(tiny_model, tmp_path, cache, network, monkeypatch):
    put_in_cache(tiny_model, cache)
    monkeypatch.chdir(tmp_path)
    messages = {}
    for name in ("someone/absent", "./absent"):
        started = time.perf_counter()
        with pytest.raises(ModelNotFoundError) as caught:
            TransformerClassifier(name, **PARAMS).fit(X, Y)
        assert time.perf_counter() - started < 2
        messages[name] = str(caught.value)
    assert "the hub cannot be reached" in messages["someone/absent"]
    assert "no such directory" in messages["./absent"]
    network.clear()
    TransformerClassifier("someone/tiny", **PARAMS).fit(X, Y).predict(X)
    assert network == []


# Secrets


SECRET_TEXTS = [f"zxsecret{i} {text}" for i, text in enumerate(X)]
SECRET_WORDS = [text.split() for text in SECRET_TEXTS]


def fit_on_secrets(kind, model, writer, **params):
    """Return an estimator that was fitted on the secret texts."""
    params = PARAMS | params
    if kind == "tagger":
        tags = [["O", *row] for row in TAGS]
        return TransformerTagger(model, **params).fit(SECRET_WORDS, tags)
    if kind == "writer":
        estimator = TransformerGenerator(writer, max_new_tokens=2, **params)
        return estimator.fit(SECRET_TEXTS, [f"zxsecret {y}" for y in Y])
    if kind == "numbers":
        return TransformerRegressor(model, **params).fit(SECRET_TEXTS, NUMBERS)
    return TransformerClassifier(model, **params).fit(SECRET_TEXTS, Y)


@pytest.fixture
def talkative():
    """Let the libraries log all that they have to say."""
    names = ("transformers", "huggingface_hub", "torch")
    loggers = [logging.getLogger(name) for name in names]
    before = [(log.level, log.propagate) for log in loggers]
    for log in loggers:
        log.setLevel(logging.DEBUG)
        log.propagate = True
    yield
    for log, (level, propagates) in zip(loggers, before, strict=True):
        log.setLevel(level)
        log.propagate = propagates


@pytest.mark.parametrize(
    "kind", ["labels", "head", "frozen", "numbers", "tagger", "writer"]
)
def test_no_token_text_or_path_is_told(
    kind, tiny_model, tmp_path, cache, monkeypatch, caplog, talkative, capfd
):
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.setenv(name, TOKEN)
    is_writer = kind == "writer"
    put_in_cache(
        save_writer(tmp_path / "w", "gpt2") if is_writer else tiny_model, cache
    )
    options = {"head": {"pooling": "head"}, "frozen": {"trainable": "head"}}
    with caplog.at_level(logging.DEBUG):
        estimator = fit_on_secrets(
            kind, "someone/tiny", "someone/tiny", **options.get(kind, {})
        )
        estimator.predict(SECRET_WORDS if kind == "tagger" else SECRET_TEXTS)
    told = {
        "repr": repr(estimator),
        "html": estimator._repr_html_(),
        "attributes": repr({k: v for k, v in vars(estimator).items() if k != "_task"}),
        "log": caplog.text,
        "output": "".join(capfd.readouterr()),
    }
    told = {name: text.encode() for name, text in told.items()}
    told["pickle"] = pickle.dumps(estimator)
    for name, content in told.items():
        for secret in (TOKEN, "zxsecret", "cache-of-the-hub"):
            assert secret.encode() not in content, f"{secret} in {name}"


def test_a_tokenizer_with_other_files_tells_no_path(tiny_model, tmp_path, cache):
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    vocabulary = make_word_tokenizer("bert").get_vocab()
    (folder / "vocab.txt").write_text("\n".join(sorted(vocabulary, key=vocabulary.get)))
    _merge(folder / "tokenizer_config.json", {"tokenizer_class": "BertTokenizer"})
    put_in_cache(folder, cache)
    tokenizer = find_checkpoint("someone/tiny").tokenizer
    assert b"cache-of-the-hub" not in pickle.dumps(tokenizer)
    assert tokenizer.name_or_path == "someone/tiny"
    tokenizer.save_pretrained(tmp_path / "again")
    again = transformers.AutoTokenizer.from_pretrained(tmp_path / "again")
    assert again(X[0])["input_ids"] == tokenizer(X[0])["input_ids"]
