"""What a fit does to a model for its own time: vocabulary and attention."""

import copy
import pickle

import numpy as np
import pytest
import torch
from tiny_models import TOKENIZER_OF, save_tiny_model
from torch import nn

from sktransformers import TransformerClassifier
from sktransformers._hardware.attention import PLAIN, set_attention, training_attention
from sktransformers._hardware.vocabulary import (
    CompactEmbedding,
    compact_vocabulary,
    expand_vocabulary,
)
from sktransformers._models.heads import build
from sktransformers._models.loading import find_checkpoint

CPU = torch.device("cpu")
IDS = torch.tensor([[2, 5, 7, 3, 0], [2, 7, 9, 11, 3]])


def load(directory, pooling="mean"):
    """Return a tiny model in float64, without dropout."""
    checkpoint = find_checkpoint(directory)
    model = build(checkpoint, n_outputs=2, pooling=pooling, dtype=torch.float64)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    set_attention(model, "eager")
    return model


def inputs_of(ids):
    """Return what a model is called with."""
    return {"input_ids": ids, "attention_mask": (ids != 0).long()}


def train_some(model):
    """Make three steps of AdamW on the module's own embeddings and all else."""
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-2, weight_decay=0.0)
    for _ in range(3):
        optimizer.zero_grad()
        model(**inputs_of(IDS)).square().sum().backward()
        optimizer.step()
    return model.eval()


@pytest.mark.parametrize("architecture", TOKENIZER_OF)
@pytest.mark.parametrize("pooling", ["mean", "head"])
def test_training_some_rows_equals_training_all(tiny_models, architecture, pooling):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        full = load(tiny_models[architecture], pooling)
    for module in full.modules():  # the heads' own dropout, and attention's
        for name in ("attention_dropout", "dropout_prob", "attn_dropout"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
    compact = copy.deepcopy(full)
    names = [name for name, _ in full.named_parameters()]
    compact_vocabulary(compact, compact.encoder, IDS.numpy())
    assert any(isinstance(m, CompactEmbedding) for m in compact.modules())
    with torch.random.fork_rng():
        torch.manual_seed(1)
        train_some(full)
        torch.manual_seed(1)
        train_some(compact)

    everything = inputs_of(torch.arange(1, 13).view(2, 6))
    with torch.no_grad():
        during = pickle.loads(pickle.dumps(compact))(**everything)
        expand_vocabulary(compact)
        after = compact(**everything)
        expected = full(**everything)
    torch.testing.assert_close(during, expected, rtol=0, atol=1e-9)
    torch.testing.assert_close(after, expected, rtol=0, atol=1e-9)
    assert [name for name, _ in compact.named_parameters()] == names
    assert all(p.requires_grad for p in compact.parameters())


def test_a_table_that_serves_the_output_too_is_left_alone(tiny_model):
    model = load(tiny_model)
    model.head.weight = model.encoder.get_input_embeddings().weight
    compact_vocabulary(model, model.encoder, IDS.numpy())
    assert not any(isinstance(m, CompactEmbedding) for m in model.modules())


def test_a_frozen_table_is_left_alone(tiny_model):
    model = load(tiny_model)
    model.encoder.requires_grad_(False)
    compact_vocabulary(model, model.encoder, IDS.numpy())
    assert not any(isinstance(m, CompactEmbedding) for m in model.modules())


def test_a_fit_leaves_rows_of_other_tokens_and_the_modules_as_they_were(
    tiny_classifier, tiny_model, sentences
):
    X, y = sentences
    tiny_classifier.set_params(early_stopping=True).fit(X, y)
    before = load(tiny_model).encoder
    after = tiny_classifier.model_.encoder
    old, new = (m.get_input_embeddings().weight.float() for m in (before, after))
    tokenizer = tiny_classifier.tokenizer_
    seen = np.unique(np.concatenate(tokenizer(X)["input_ids"]))
    changed = np.flatnonzero((old != new).any(dim=1).numpy())
    assert len(changed)
    assert set(changed) <= set(seen)
    assert type(after.get_input_embeddings()) is nn.Embedding
    assert [n for n, _ in after.named_modules()] == [
        n for n, _ in before.named_modules()
    ]
    assert after.config._attn_implementation == "sdpa"


def test_partial_fit_meets_new_tokens(tiny_classifier, sentences):
    X, y = sentences
    tiny_classifier.partial_fit(X[:2], y[:2], classes=np.unique(y))
    tiny_classifier.partial_fit(X[2:], y[2:])
    old = tiny_classifier.predict_proba(X)
    tiny_classifier.set_params(warm_start=True, max_epochs=1).fit(X, y)
    assert not np.array_equal(tiny_classifier.predict_proba(X), old)


@pytest.mark.parametrize(
    ("architecture", "length", "expected"),
    [
        ("bert", 20, PLAIN),
        ("bert", 600, PLAIN),  # the fused kernel has no dropout on a CPU
        ("modernbert", 20, PLAIN),  # which is trained without
        ("modernbert", 600, "sdpa"),
    ],
)
def test_attention_suits_the_device_and_the_lengths(
    tiny_models, architecture, length, expected
):
    checkpoint = find_checkpoint(tiny_models[architecture])
    model = build(checkpoint, n_outputs=2, pooling="mean", dtype=torch.float32)
    config, lengths = model.encoder.config, np.array([8, length, length])
    assert training_attention(config, CPU, lengths) == expected
    assert training_attention(config, torch.device("cuda"), lengths) == "sdpa"


@pytest.mark.parametrize("architecture", TOKENIZER_OF)
@pytest.mark.parametrize("pooling", ["mean", "head"])
def test_attention_implementations_agree(tiny_models, architecture, pooling):
    model = load(tiny_models[architecture], pooling)
    outputs, gradients = [], []
    for implementation in ("eager", "sdpa", PLAIN):
        set_attention(model, implementation)
        assert model.encoder.config._attn_implementation == implementation
        model.zero_grad()
        outputs.append(model(**inputs_of(IDS)))
        outputs[-1].square().sum().backward()
        weight = next(p for p in model.parameters() if p.ndim == 2)
        gradients.append(weight.grad.clone())
    for values in (outputs, gradients):
        for other in values[1:]:
            torch.testing.assert_close(other, values[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("architecture", TOKENIZER_OF)
def test_attention_in_lower_precision(tmp_path, architecture):
    # Padding that sees nothing but padding, in ModernBERT's short window.
    options = {"local_attention": 4} if architecture == "modernbert" else {}
    directory = save_tiny_model(tmp_path, architecture, **options)
    model = load(directory).float()
    ids = torch.tensor([[2, 5, 7, 3] + 16 * [0], 4 * [2, 7, 9, 11, 3]])
    mask = torch.ones_like(ids)
    mask[0, 4:] = 0
    exact = model(input_ids=ids, attention_mask=mask)
    set_attention(model, PLAIN)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        lowered = model(input_ids=ids, attention_mask=mask)
        lowered.float().square().sum().backward()
    torch.testing.assert_close(lowered.float(), exact, rtol=0, atol=0.05)
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_a_fit_is_repeatable_with_all_of_it(tiny_model, sentences):
    X, y = sentences
    fits = [
        TransformerClassifier(tiny_model, max_epochs=2, random_state=3).fit(X, y)
        for _ in range(2)
    ]
    first, second = (fit.predict_proba(X) for fit in fits)
    assert np.array_equal(first, second)
