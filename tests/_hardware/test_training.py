"""What makes a training fast is undone when the training ends."""

import numpy as np
import pytest
import torch

from sktransformers._compat import attention_implementation
from sktransformers._hardware.dropout import FastDropout
from sktransformers._hardware.training import fast_training
from sktransformers._hardware.vocabulary import CompactEmbedding
from sktransformers._models.heads import build
from sktransformers._models.loading import find_checkpoint

CPU = torch.device("cpu")
IDS = np.array([5, 6, 7, 8])


def kinds_of(model):
    return [type(module) for module in model.modules()]


@pytest.fixture
def model(tiny_model):
    """Return a tiny BERT with a new head."""
    return build(
        find_checkpoint(tiny_model), n_outputs=2, pooling="mean", dtype=torch.float32
    )


@pytest.mark.parametrize("fails", [False, True])
def test_a_model_is_as_before_but_for_what_it_has_learned(model, fails):
    before, attention = kinds_of(model), attention_implementation(model.encoder.config)
    table = model.encoder.get_input_embeddings().weight.detach().clone()
    ids = torch.from_numpy(IDS)[None]
    try:
        with fast_training(model, CPU, np.array([4]), IDS, compile=False):
            assert {FastDropout, CompactEmbedding} <= set(kinds_of(model))
            assert attention_implementation(model.encoder.config) != attention
            outputs = model.train()(input_ids=ids, attention_mask=ids * 0 + 1)
            outputs.sum().backward()
            with torch.no_grad():
                for parameter in model.parameters():
                    if parameter.grad is not None:
                        parameter -= 0.1 * parameter.grad
            if fails:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert fails
    assert kinds_of(model) == before
    assert attention_implementation(model.encoder.config) == attention
    learned = model.encoder.get_input_embeddings().weight.detach() != table
    assert learned.any(dim=1).nonzero().flatten().tolist() == IDS.tolist()


def test_compiled_models_keep_their_dropout(model):
    with fast_training(model, CPU, np.array([4]), None, compile=True):
        assert not {FastDropout, CompactEmbedding} & set(kinds_of(model))
