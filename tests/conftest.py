"""Tiny models and tokenizers, built in-process: no test downloads anything."""

import random
import socket

import numpy as np
import pytest

VOCABULARY = (
    "good great lovely fine superb bad awful dull poor sad film plot actor scene story "
    "music the a an of and is was very not so quite rather this that it one two"
).split()
POSITIVE = VOCABULARY[:5]
NEGATIVE = VOCABULARY[5:10]
NEUTRAL = VOCABULARY[10:]
LAYERS = 1  # tests of single layers ask for two
WIDTH = 16


def assert_close(found, expected, *, rtol=1e-5):
    """Require numbers that differ by rounding at most.

    The last bits of a sum depend on the processor, the number of threads and the shape
    of the batch. What is lost goes with the largest numbers in it, so a result near
    zero is as uncertain as a large one: the tolerance is ``rtol`` times the largest.
    """
    expected = np.asarray(expected)
    largest = np.abs(expected).max(initial=0)
    assert np.isfinite(largest)  # else anything would be close
    np.testing.assert_allclose(found, expected, rtol=0, atol=rtol * largest)


def make_sentences(n, *, seed=0):
    """Return sentences and their labels, "neg" or "pos", which a word gives away."""
    rng = random.Random(seed)
    sentences, labels = [], []
    for i in range(n):
        words = rng.choices(NEUTRAL, k=rng.randint(2, 9))
        words += rng.choices(POSITIVE if i % 2 else NEGATIVE, k=2)
        rng.shuffle(words)
        sentences.append(" ".join(words))
        labels.append("pos" if i % 2 else "neg")
    return sentences, labels


def make_word_tokenizer(kind):
    """Return a fast tokenizer of whole words, with the special tokens of a family."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = {
        "bert": ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
        "roberta": ["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        "gpt2": ["<|endoftext|>", "<unk>"],
    }[kind]
    words = [*special, *VOCABULARY, *"abcdefghijklmnopqrstuvwxyz"]
    ids = {word: i for i, word in enumerate(dict.fromkeys(words))}
    unknown = next(t for t in special if "unk" in t.lower())
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token=unknown))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if kind == "gpt2":
        return PreTrainedTokenizerFast(
            tokenizer_object=tokenizer,
            eos_token="<|endoftext|>",
            bos_token="<|endoftext|>",
            unk_token="<unk>",
            model_max_length=64,
        )
    first, last = ("[CLS]", "[SEP]") if kind == "bert" else ("<s>", "</s>")
    pair = f"{first} $A {last} $B:1 {last}:1"
    if kind == "roberta":
        pair = f"{first} $A {last} {last} $B {last}"
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}",
        pair=pair,
        special_tokens=[(token, ids[token]) for token in (first, last)],
    )
    names = ["input_ids", "attention_mask"]
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token=unknown,
        pad_token="[PAD]" if kind == "bert" else "<pad>",
        cls_token=first,
        sep_token=last,
        eos_token=None if kind == "bert" else "</s>",
        model_max_length=64,
        model_input_names=["token_type_ids", *names] if kind == "bert" else names,
    )


def make_config(architecture, n_tokens, *, layers=LAYERS, **overrides):
    """Return the configuration of a tiny model."""
    import transformers

    shared = {"vocab_size": n_tokens, **overrides}
    encoder = {
        "hidden_size": WIDTH,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,
        "intermediate_size": 2 * WIDTH,
    }
    match architecture:
        case "bert":
            settings = {**encoder, "max_position_embeddings": 64, "pad_token_id": 0}
            return transformers.BertConfig(**(settings | shared))
        case "roberta":
            return transformers.RobertaConfig(
                **encoder, max_position_embeddings=66, pad_token_id=1, **shared
            )
        case "distilbert":
            return transformers.DistilBertConfig(
                dim=WIDTH,
                n_layers=layers,
                n_heads=2,
                hidden_dim=2 * WIDTH,
                max_position_embeddings=64,
                pad_token_id=0,
                **shared,
            )
        case "gpt2":
            return transformers.GPT2Config(
                n_embd=WIDTH,
                n_layer=layers,
                n_head=2,
                n_positions=64,
                bos_token_id=0,
                eos_token_id=0,
                **shared,
            )
        case "modernbert":
            return transformers.ModernBertConfig(
                **encoder,
                max_position_embeddings=64,
                pad_token_id=0,
                bos_token_id=2,
                eos_token_id=3,
                cls_token_id=2,
                sep_token_id=3,
                **shared,
            )
    raise ValueError(architecture)


TOKENIZER_OF = {
    "bert": "bert",
    "roberta": "roberta",
    "distilbert": "bert",
    "gpt2": "gpt2",
    "modernbert": "bert",
}


def save_tiny_model(directory, architecture="bert", *, head=False, **config_overrides):
    """Save a randomly initialised model with its tokenizer; return the directory."""
    import torch
    import transformers

    from sktransformers.models.loading import quiet

    tokenizer = make_word_tokenizer(TOKENIZER_OF[architecture])
    with quiet():
        config = make_config(architecture, len(tokenizer), **config_overrides)
    auto = (
        transformers.AutoModelForSequenceClassification
        if head
        else transformers.AutoModel
    )
    with torch.random.fork_rng(), quiet():
        torch.manual_seed(0)
        auto.from_config(config).save_pretrained(directory)
        tokenizer.save_pretrained(directory)
    return str(directory)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """Return the directory of a tiny BERT."""
    return save_tiny_model(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory):
    """Return the directory of a tiny model of each architecture."""
    return {
        name: save_tiny_model(tmp_path_factory.mktemp(name), name)
        for name in TOKENIZER_OF
    }


@pytest.fixture(scope="session")
def two_layer_models(tmp_path_factory):
    """Return the directory of a model of two layers, of each architecture."""
    return {
        name: save_tiny_model(tmp_path_factory.mktemp(name), name, layers=2)
        for name in TOKENIZER_OF
    }


@pytest.fixture(scope="session")
def sentences():
    """Return 64 sentences and their labels, half "neg" and half "pos"."""
    return make_sentences(64)


@pytest.fixture
def n_threads():
    """Return a number of threads for a process that is to compute the same bits."""
    import torch

    number = torch.get_num_threads()
    torch.set_num_threads(number)  # else MKL may use fewer, in one of the two
    return number


@pytest.fixture
def tiny_classifier(tiny_model):
    """Return an unfitted classifier that trains in a fraction of a second."""
    from sktransformers import TransformerClassifier

    return TransformerClassifier(
        tiny_model,
        max_epochs=2,
        batch_size=16,
        learning_rate=1e-3,
        device="cpu",
        precision="float32",
        random_state=0,
    )


@pytest.fixture(scope="session")
def fitted_classifier(tiny_model, sentences):
    """Return a classifier fitted on the sentences; not to be changed."""
    from sktransformers import TransformerClassifier

    X, y = sentences
    return TransformerClassifier(
        tiny_model,
        max_epochs=8,
        batch_size=16,
        learning_rate=3e-3,
        device="cpu",
        precision="float32",
        random_state=0,
    ).fit(X, y)


@pytest.fixture
def offline(monkeypatch):
    """Cut the network; return the list of what was tried all the same."""
    tried = []

    def refuse(*args, **kwargs):
        tried.append(args)
        raise OSError("no network in this test")

    for name in ("create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    return tried
