"""Make tiny estimators for the checks of ``text_checks``."""

import inspect

from adapters import ReadsNumbers, save_word_model
from tiny_models import make_config, make_word_tokenizer, save_tiny_model

from sktransformers import (
    TransformerClassifier,
    TransformerGenerator,
    TransformerRegressor,
    TransformerTagger,
)

OURS = {
    "classifier": TransformerClassifier,
    "regressor": TransformerRegressor,
    "tagger": TransformerTagger,
    "generator": TransformerGenerator,
}
SETTINGS = {
    "max_epochs": 1,
    "batch_size": 16,
    "learning_rate": 1e-3,
    "max_new_tokens": 4,
    "pooling": "mean",  # a head of this kind has learned something at once
    "device": "cpu",
    "precision": "float32",
    "random_state": 0,
}


def save_models(new_directory):
    """Save an encoder, an encoder for numbers and a generative model."""
    # Large weights, so that predictions differ between texts.
    import torch
    import transformers

    tokenizer = make_word_tokenizer("gpt2")
    config = make_config("gpt2", len(tokenizer), initializer_range=0.5)
    writer = new_directory("writer")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.GPT2LMHeadModel(config).save_pretrained(writer)
    tokenizer.save_pretrained(writer)
    return {
        "encoder": save_tiny_model(new_directory("encoder"), initializer_range=0.2),
        "words": save_word_model(new_directory("words")),
        "writer": str(writer),
    }


def make_estimator(cls, models):
    """Return an unfitted estimator of the given class that trains quickly."""
    model = "encoder"
    if issubclass(cls, TransformerGenerator):
        model = "writer"
    elif issubclass(cls, ReadsNumbers):
        model = "words"
    known = inspect.signature(cls.__init__).parameters
    params = {name: value for name, value in SETTINGS.items() if name in known}
    if issubclass(cls, TransformerTagger):
        params |= {"max_epochs": 4, "learning_rate": 1e-2}  # until it finds anything
    return cls(models[model], **params)
