"""Build tiny models and tokenizers, so that tests need no downloads."""

import random

import numpy as np

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
    """Check that numbers are equal up to rounding errors."""
    # Rounding depends on the processor, the number of threads and the shape of the
    # batch. The error is relative to the largest numbers of a sum, so results near zero
    # are as inexact as large ones: the tolerance is ``rtol`` times the largest number.
    expected = np.asarray(expected)
    largest = np.abs(expected).max(initial=0)
    assert np.isfinite(largest)  # else anything would be close
    np.testing.assert_allclose(found, expected, rtol=0, atol=rtol * largest)


def bit_equal(a, b, X):
    """Return whether the probabilities of two classifiers are equal."""
    return np.array_equal(a.predict_proba(X), b.predict_proba(X))


def make_sentences(n, *, seed=0):
    """Return sentences and their labels, "neg" or "pos", which depend on two words."""
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
    """Return a fast word tokenizer with the special tokens of a model family."""
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
            # transformers 5.10 cannot configure one layer, which has one kind of
            # attention.
            encoder["num_hidden_layers"] = max(2, layers)
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
    """Save a randomly initialized model with its tokenizer; return the directory."""
    import torch
    import transformers

    from sktransformers._models.loading import quiet

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
