"""The frozen bottom of a model runs once a fit, and changes nothing else."""

import pickle
import weakref
from collections import Counter

import numpy as np
import pytest
import torch
import transformers
from sklearn.base import clone
from sklearn.callback import ScoringMonitor
from tiny_models import TOKENIZER_OF, save_tiny_model

from sktransformers import TransformerClassifier
from sktransformers._hardware import frozen
from sktransformers._inference import embedding_cache as vector_cache
from sktransformers._models.heads import PooledModel, layers_of, set_trainable
from sktransformers._training import fit as _fitting

N_TOKENS = 80
QUICK = ("bert", "gpt2")
ARCHITECTURES = [
    pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow])
    for name in TOKENIZER_OF
]
DROPOUTS = {
    "bert": ["hidden_dropout_prob", "attention_probs_dropout_prob"],
    "roberta": ["hidden_dropout_prob", "attention_probs_dropout_prob"],
    "distilbert": ["dropout", "attention_dropout", "seq_classif_dropout"],
    "gpt2": ["embd_pdrop", "attn_pdrop", "resid_pdrop"],
    "modernbert": [],
}


@pytest.fixture(scope="module")
def exact_models(tmp_path_factory):
    """Return the directory of a tiny model of each architecture, without dropout."""
    return {
        name: save_tiny_model(
            tmp_path_factory.mktemp(name),
            name,
            layers=2,
            **dict.fromkeys(DROPOUTS[name], 0.0),
        )
        for name in TOKENIZER_OF
    }


@pytest.fixture
def classifier(exact_models):
    """Return an unfitted classifier in double precision, of which the top trains."""
    return TransformerClassifier(
        exact_models["bert"],
        max_epochs=3,
        batch_size=16,
        learning_rate=3e-3,
        head_learning_rate=1e-2,
        trainable=1,
        precision="float64",
        device="cpu",
        random_state=0,
    )


@pytest.fixture
def never_parted(monkeypatch):
    """Return a function that fits with the whole model in every step."""

    def fit(estimator, *args, method="fit", **kwargs):
        with monkeypatch.context() as patch:
            patch.setattr(_fitting, "cache_frozen_layers", lambda *_, **__: None)
            return getattr(estimator, method)(*args, **kwargs)

    return fit


def assert_same(fitted, other, X):
    weights = other.model_.state_dict()
    for name, weight in fitted.model_.state_dict().items():
        torch.testing.assert_close(weight, weights[name], rtol=0, atol=1e-9)
    np.testing.assert_allclose(
        fitted.predict_proba(X), other.predict_proba(X), rtol=0, atol=1e-9
    )


def count_rows(monkeypatch, estimator, X, y):
    """Fit; return how many rows went through each layer, bottom first."""
    layers = layers_of(
        clone(estimator).set_params(max_epochs=0).fit(X, y).model_.encoder
    )
    true_forward = type(layers[0]).forward
    n_rows = Counter()

    def forward(layer, hidden_states, *args, **kwargs):
        n_rows[id(next(layer.parameters()))] += len(hidden_states)
        return true_forward(layer, hidden_states, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(vector_cache, "_CACHES", {None: vector_cache.VectorCache()})
        patch.setattr(type(layers[0]), "forward", forward)
        estimator.fit(X, y)
    return [
        n_rows[id(next(x.parameters()))] for x in layers_of(estimator.model_.encoder)
    ]


@pytest.mark.parametrize("pooling", ["auto", "head"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_more_epochs_take_no_more_passes_through_the_bottom(
    architecture, pooling, classifier, exact_models, sentences, monkeypatch
):
    classifier.set_params(model=exact_models[architecture], pooling=pooling)
    bottom, top = count_rows(monkeypatch, classifier, *sentences)
    n_passes = 2 if pooling == "auto" else 1  # the head starts from one
    assert n_passes * 64 <= bottom < n_passes * 64 + 10  # and the parts were tried
    assert top >= (n_passes + 2) * 64


def test_a_head_alone_takes_one_pass_in_all(classifier, sentences, monkeypatch):
    classifier.set_params(trainable="head")
    n_rows = 64 + 1  # one row shows how wide the embeddings are
    assert count_rows(monkeypatch, classifier, *sentences) == [n_rows, n_rows]


@pytest.mark.parametrize("pooling", ["auto", "head"])
@pytest.mark.parametrize("trainable", ["head", 1])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_result_is_that_of_the_whole_model(
    architecture, trainable, pooling, classifier, exact_models, sentences, never_parted
):
    X, y = sentences
    classifier.set_params(
        model=exact_models[architecture], pooling=pooling, trainable=trainable
    )
    whole = never_parted(clone(classifier), X, y)
    assert_same(classifier.fit(X, y), whole, X)


@pytest.mark.parametrize(
    "params",
    [
        {"gradient_accumulation_steps": 3},
        {"gradient_checkpointing": True},
        {"early_stopping": True},
        {"early_stopping": True, "trainable": "head"},
        {"long_text": "window", "max_length": 6},
        {"long_text": "window", "max_length": 6, "trainable": "head"},
        {"max_epochs": 1, "batch_size": 100},
        pytest.param(
            {"compile": True},
            marks=[
                pytest.mark.slow,
                pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),
            ],
        ),
    ],
    ids=str,
)
def test_the_same_with_other_parameters(params, classifier, sentences, never_parted):
    X, y = sentences
    classifier.set_params(**params)
    whole = never_parted(clone(classifier), X, y, sample_weight=np.linspace(1, 2, 64))
    classifier.fit(X, y, sample_weight=np.linspace(1, 2, 64))
    assert_same(classifier, whole, X)
    if "early_stopping" in params:
        for name in ("valid_loss", "valid_score"):
            expected = [record[name] for record in whole.history_]
            found = [record[name] for record in classifier.history_]
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


def test_the_same_with_pairs(classifier, sentences, never_parted):
    X, y = sentences
    pairs = list(zip(X, X[1:] + X[:1], strict=True))
    assert_same(
        clone(classifier).fit(pairs, y), never_parted(classifier, pairs, y), pairs
    )


@pytest.mark.parametrize("trainable", ["head", 1])
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_the_same_where_a_fit_goes_on(
    method, trainable, classifier, sentences, never_parted
):
    X, y = sentences
    classifier.set_params(trainable=trainable, warm_start=True)
    whole = never_parted(clone(classifier), X, y)
    never_parted(whole, X[:40], y[:40], method=method)
    getattr(classifier.fit(X, y), method)(X[:40], y[:40])
    assert_same(classifier, whole, X)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_memory_allows_does_not_change_the_result(
    architecture, classifier, two_layer_models, sentences, monkeypatch
):
    X, y = sentences
    classifier.set_params(model=two_layer_models[architecture])
    kept = clone(classifier).fit(X, y)  # with dropout
    monkeypatch.setattr(frozen, "_MOST_BYTES", 1000)
    bottom, _ = count_rows(monkeypatch, classifier, X, y)
    assert bottom >= 3 * 64
    assert_same(classifier, kept, X)


def test_bfloat16(classifier, sentences, never_parted):
    X, y = sentences
    classifier.set_params(precision="bfloat16")
    whole = never_parted(clone(classifier), X, y)
    found, expected = classifier.fit(X, y).predict_proba(X), whole.predict_proba(X)
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.05)


@pytest.mark.parametrize("trainable", ["head", 1])
def test_nothing_is_left_of_it(
    trainable, classifier, sentences, never_parted, monkeypatch
):
    X, y = sentences
    made = []
    true_split = _fitting.cache_frozen_layers

    def split(*args, **kwargs):
        parted = true_split(*args, **kwargs)
        made.append(weakref.ref(parted))
        return parted

    classifier.set_params(trainable=trainable)
    whole = never_parted(clone(classifier), X, y)
    monkeypatch.setattr(_fitting, "cache_frozen_layers", split)
    classifier.fit(X, y)
    assert made[0]() is None  # and so is what it kept
    for module in classifier.model_.modules():
        assert "forward" not in vars(module)
        assert not module._forward_hooks
        assert not module.training
    dumped = pickle.dumps(classifier)
    assert len(dumped) < 1.01 * len(pickle.dumps(whole))
    loaded = pickle.loads(dumped)
    assert np.array_equal(loaded.predict_proba(X), classifier.predict_proba(X))


@pytest.mark.parametrize("trainable", ["head", 1])
def test_callbacks_see_the_whole_model(trainable, classifier, sentences, never_parted):
    classifier.set_params(trainable=trainable)
    whole = clone(classifier)
    monitors = [ScoringMonitor(scoring="neg_log_loss") for _ in range(2)]
    classifier.set_callbacks(monitors[0]).fit(*sentences)
    never_parted(whole.set_callbacks(monitors[1]), *sentences)
    scores, expected = (
        monitor.get_logs().data_as_pandas["neg_log_loss"].to_numpy()
        for monitor in monitors
    )
    assert len(scores) >= 3
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("call", [3, 9, 14])
def test_an_interrupt_leaves_the_earlier_fit_intact(
    call, classifier, sentences, monkeypatch
):
    X, y = sentences
    model = classifier.fit(X, y).model_
    before = classifier.predict_proba(X)
    layer = type(layers_of(model.encoder)[0])
    true_forward, calls = layer.forward, []

    def forward(*args, **kwargs):
        calls.append(1)
        if len(calls) == call:
            raise KeyboardInterrupt
        return true_forward(*args, **kwargs)

    classifier.set_params(warm_start=True)
    with monkeypatch.context() as patch:
        patch.setattr(layer, "forward", forward)
        with pytest.raises(KeyboardInterrupt):
            classifier.fit(X, y)
    assert classifier.model_ is model
    assert np.array_equal(classifier.predict_proba(X), before)


def part(config):
    """Return a pooled model of which the top layer trains, and what it is parted in."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = transformers.AutoModel.from_config(config)
        if config.is_encoder_decoder:
            encoder = encoder.get_encoder()
        model = PooledModel(encoder, 2, "mean").eval()
        ids = torch.randint(3, 60, (2, 9))
    set_trainable(model, 1)
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    sample = {"input_ids": ids, "attention_mask": mask}
    lengths, n_outputs = torch.tensor([9, 5]), torch.ones(2, dtype=int)
    return model, frozen.cache_frozen_layers(
        model, sample, lengths, n_outputs, keep=True
    )


SMALL = {
    "vocab_size": 60,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 32,
}


@pytest.mark.parametrize(
    ("config", "shared"),
    [
        (transformers.MPNetConfig(**SMALL), "relative_attention_bias"),
        (
            transformers.BartConfig(
                vocab_size=60,
                d_model=16,
                encoder_layers=3,
                decoder_layers=1,
                encoder_attention_heads=2,
                encoder_ffn_dim=32,
                max_position_embeddings=32,
            ),
            "layernorm_embedding",
        ),
    ],
    ids=lambda value: getattr(value, "model_type", value),
)
def test_what_feeds_a_frozen_layer_is_frozen(config, shared):
    model, parted = part(config)
    assert parted is not None
    trains = {name: p.requires_grad for name, p in model.named_parameters()}
    assert not any(on for name, on in trains.items() if shared in name)
    assert all(p.requires_grad for p in layers_of(model.encoder)[-1].parameters())
    assert all(p.requires_grad for p in model.head.parameters())


@pytest.mark.parametrize(
    "config",
    [
        # Its first layer makes the position biases of all.
        transformers.T5Config(
            vocab_size=60, d_model=16, d_kv=8, d_ff=32, num_layers=3, num_heads=2
        ),
        transformers.FNetConfig(**SMALL),  # mixes all positions, padding too
    ],
    ids=lambda config: config.model_type,
)
def test_an_architecture_that_cannot_be_parted_trains_whole(config):
    assert part(config)[1] is None
