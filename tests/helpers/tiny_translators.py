"""Make tiny multilingual translation models."""

import torch
import transformers
from tiny_generators import load, save_writer

from sktransformers._models.files import quiet

# The source and target languages of each family.
LANGUAGES = {
    "nllb": ("fra_Latn", "deu_Latn"),
    "mbart50": ("fr_XX", "de_DE"),
    "mbart": ("fr_XX", "de_DE"),
}


def make_multilingual_tokenizer(kind):
    """Return a letter tokenizer with the language tokens of the model family."""
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    words = [f"▁{letter}" for letter in "abcdefghij"] + ["▁"]
    if kind == "nllb":
        vocab = {token: i for i, token in enumerate([*special, *"abcdefghij▁"])}
        return transformers.NllbTokenizer(vocab=vocab, merges=[])
    vocab = [(token, 0.0 if token in special else -1.0) for token in [*special, *words]]
    if kind == "mbart50":
        return transformers.MBart50Tokenizer(vocab=vocab)
    return transformers.MBartTokenizer(vocab=vocab)


def save_translator(directory, family):
    """Save a tiny model of a multilingual family; return the directory."""
    save_writer(
        directory,
        "nllb" if family == "nllb" else "mbart",
        make_multilingual_tokenizer(family),
        init_std=0.7,
        # As their authors saved them; in the last the language comes first.
        decoder_start_token_id=None if family == "mbart" else 2,
    )
    model, tokenizer = load(directory)
    letters = [tokenizer.get_vocab()[t] for t in tokenizer.get_vocab() if len(t) < 3]
    with torch.no_grad(), quiet():  # rather than languages and ends
        model.get_input_embeddings().weight[letters] *= 4
        model.save_pretrained(directory)
    return str(directory)
