"""Tests of TransformerTagger.fit: weights, early stopping and checkpoints."""

import copy
import itertools

import numpy as np
import pytest
import torch
import transformers
from sklearn.base import clone
from tiny_models import TOKENIZER_OF, make_config, make_word_tokenizer
from tiny_taggers import assert_close, equal, make_tagged, make_tagger
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from tokenizers.processors import TemplateProcessing

from sktransformers._estimators import base as _base
from sktransformers._models import heads as modules
from sktransformers._models.loading import quiet
from sktransformers._training import fit as _fitting
from sktransformers.exceptions import DivergenceError, TextValueError


@pytest.fixture(scope="module")
def X():  # noqa: N802
    return make_tagged(64)[0]


@pytest.fixture(scope="module")
def y():
    return make_tagged(64)[1]


@pytest.fixture
def exact(tmp_path_factory, monkeypatch):
    """Return an unfitted tagger without any dropout, in float64."""
    monkeypatch.setattr(modules, "_NEW_HEAD_DROPOUT", 0.0)
    none = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    directory = tmp_path_factory.mktemp("exact")
    save(directory, transformers.AutoModel, make_word_tokenizer("bert"), **none)
    return make_tagger(str(directory), precision="float64")


def save(directory, auto, tokenizer, architecture="bert", **overrides):
    with torch.random.fork_rng(), quiet():
        torch.manual_seed(0)
        config = make_config(architecture, len(tokenizer), **overrides)
        auto.from_config(config).save_pretrained(directory)
        tokenizer.save_pretrained(directory)
    return str(directory)


# Training


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"early_stopping": True, "validation_fraction": 0.3},
        {"class_weight": "balanced"},
        {"class_weight": {"B-POS": 3}},
        {"max_length": 6},
        {"trainable": 1},
    ],
    ids=str,
)
def test_a_text_of_weight_zero_is_as_if_it_were_not_there(params, tagger, X, y):
    rows = [i for i in range(64) if i % 4]
    weights = np.array([i % 4 for i in range(64)], dtype=float)
    a = clone(tagger).set_params(**params).fit(X, y, sample_weight=weights)
    b = clone(tagger).set_params(**params)
    b.fit([X[i] for i in rows], [y[i] for i in rows], sample_weight=weights[rows])
    assert equal(a, b, X)


def test_a_weight_is_each_words(exact):
    X, y = make_tagged(16)
    exact.set_params(batch_size=1000)
    a = clone(exact).fit(X, y, sample_weight=[3] + [1] * 15)
    b = clone(exact).fit(X[:1] * 2 + X, y[:1] * 2 + y)
    assert_close(a.predict_proba(X), b.predict_proba(X), 1e-6)
    for bad in ([1.0], [-1.0] + [1.0] * 15, [0.0] * 16):
        with pytest.raises(ValueError, match=r"shape|[Nn]egative|zero"):
            exact.fit(X, y, sample_weight=bad)


@pytest.mark.parametrize("max_epochs", [0, 4])
def test_class_weights_shift_the_probabilities(max_epochs, tagger):
    X = [["film", "plot"]] * 30
    y = [["A", "A"], ["A", "A"], ["A", "B"]] * 10
    tagger.set_params(max_epochs=max_epochs, scheme="plain")

    def share(class_weight):
        tagger.set_params(class_weight=class_weight).fit(X, y)
        return np.concatenate(tagger.predict_proba(X))[:, 1].mean()

    plain, balanced = share(None), share("balanced")
    assert plain + 0.1 < balanced
    assert abs(share({"A": 60 / 100, "B": 60 / 20}) - balanced) < 1e-6
    assert share({"B": 50}) > balanced + 0.05
    assert share({"B": 0}) < 0.3
    assert tagger.classes_.tolist() == ["A", "B"]


def test_the_number_of_epochs_may_be_chosen_for_the_user(tagger, X, y):
    X, y = X[:16], y[:16]
    tagger.set_params(max_epochs="auto").fit(X, y)
    assert tagger.n_epochs_ == len(tagger.history_) >= 3
    assert tagger.history_[-1]["train_loss"] < tagger.history_[0]["train_loss"]
    tagger.set_params(trainable="head").fit(X, y)
    assert tagger.n_epochs_ == 0


@pytest.mark.parametrize("scheme", ["BIO", "plain"])
def test_early_stopping_keeps_the_epoch_of_the_best_score(scheme, tagger, monkeypatch):
    def hold_out_all(data, fraction, rng):
        rows = np.arange(data.encoding.n_texts)
        return rows, rows

    monkeypatch.setattr(_base, "split", hold_out_all)
    X, y = make_tagged(48, scheme=scheme)
    tagger.set_params(
        early_stopping=True,
        max_epochs=12,
        n_iter_no_change=2,
        max_length=8,
        precision="float32",
    )
    tagger.fit(X, y)
    scores = [record["valid_score"] for record in tagger.history_]
    assert max(scores) > scores[0]
    np.testing.assert_allclose(tagger.score(X, y), max(scores))
    losses = [record["valid_loss"] for record in tagger.history_]
    probabilities = np.concatenate(tagger.predict_proba(X))
    codes = np.searchsorted(tagger.classes_, np.hstack(y))
    chosen = probabilities[np.arange(len(codes)), codes]
    loss = -np.log(chosen).mean()
    best = [
        loss for loss, score in zip(losses, scores, strict=True) if score == max(scores)
    ]
    np.testing.assert_allclose(loss, min(best), rtol=1e-4)


def test_early_stopping_holds_out_whole_texts(tagger, X, y):
    tagger.set_params(early_stopping=True, validation_fraction=0.25)
    tagger.fit([*X, [], []], [*y, [], []])
    assert {"valid_score", "valid_loss"} <= set(tagger.history_[0])
    assert tagger.history_[0]["n_steps"] == 3  # of 48 texts
    assert all(0 <= record["valid_score"] <= 1 for record in tagger.history_)


def test_a_random_state_makes_a_fit_repeatable(tagger, X, y):
    a, b = (clone(tagger).fit(X, y) for _ in range(2))
    assert equal(a, b, X)
    assert not equal(a, clone(tagger).set_params(random_state=1).fit(X, y), X)


def test_accumulated_gradients_are_those_of_one_batch(exact, X, y):
    one = clone(exact).fit(X, y)
    parts = clone(exact).set_params(gradient_accumulation_steps=4).fit(X, y)
    assert_close(one.predict_proba(X), parts.predict_proba(X), 1e-6)


@pytest.mark.parametrize("trainable", ["head", 1])
@pytest.mark.parametrize("architecture", ["bert", "token head"])
def test_a_frozen_bottom_runs_once_and_changes_nothing(
    trainable, architecture, exact, X, y, tmp_path, monkeypatch
):
    if architecture == "token head":
        none = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        exact.set_params(model=save_token_head(tmp_path, sorted_tags(y), **none))
    exact.set_params(trainable=trainable, max_length=8)
    kept = clone(exact).fit(X, y)
    monkeypatch.setattr(_fitting, "cache_frozen_layers", lambda *args, **kwargs: None)
    repeated = clone(exact).fit(X, y)
    assert_close(kept.predict_proba(X), repeated.predict_proba(X), 1e-6)
    assert isinstance(kept.model_, modules.ArchitectureModel) == (
        architecture == "token head"
    )


def test_it_goes_on_from_where_it_was(tagger, X, y):
    tagger.set_params(warm_start=True, max_epochs=2).fit(X, y)
    first = tagger.history_[0]["train_loss"]
    part = [i for i in range(64) if not {"B-NEG", "I-NEG"} & set(y[i])]
    tagger.fit([X[i] for i in part], [y[i] for i in part])
    assert tagger.history_[0]["train_loss"] < first
    assert tagger.classes_.tolist() == sorted_tags(y)
    before = tagger.predict_proba(X)
    with pytest.raises(ValueError, match=r"y\[1\] has the tag 'B-NEW', which is not"):
        tagger.fit([["a"], ["good", "film"]], [["O"], ["B-NEW", "O"]])
    assert_close(tagger.predict_proba(X), before, 0)
    tagger.set_params(warm_start=False).fit([["a"], ["good"]], [["O"], ["B-NEW"]])
    assert tagger.classes_.tolist() == ["B-NEW", "O"]


def test_a_failed_fit_leaves_the_earlier_one_intact(tagger, X, y):
    tagger.fit(X, y)
    before, entities = tagger.predict_proba(X), tagger.predict_entities(X)
    plain_y = [["Y"] * len(words) for words in X]
    with pytest.raises(DivergenceError):
        tagger.set_params(learning_rate=1e30, head_learning_rate=1e30).fit(X, plain_y)
    with pytest.raises(TextValueError):
        tagger.fit(["a", None], y)
    assert_close(tagger.predict_proba(X), before, 0)
    assert tagger.predict_entities(X) == entities
    assert (tagger.scheme_, len(tagger.classes_)) == ("BIO", 5)


# Checkpoints


def sorted_tags(y):
    return sorted({t for tags in y for t in tags})


def save_token_head(directory, names, architecture="bert", **overrides):
    return save(
        directory,
        transformers.AutoModelForTokenClassification,
        make_word_tokenizer(TOKENIZER_OF[architecture]),
        architecture,
        id2label=dict(enumerate(names)),
        label2id={name: i for i, name in enumerate(names)},
        **overrides,
    )


@pytest.mark.parametrize("architecture", TOKENIZER_OF)
def test_a_trained_head_with_the_same_tags_is_kept(architecture, X, y, tmp_path):
    names = ["O", "I-POS", "B-POS", "I-NEG", "B-NEG"]
    directory = save_token_head(tmp_path, names, architecture)
    tagger = make_tagger(directory, max_epochs=0).fit(X, y)
    with quiet():
        model = transformers.AutoModelForTokenClassification.from_pretrained(directory)
        tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    order = [names.index(name) for name in tagger.classes_]
    first = int(architecture != "gpt2")
    for words, got in zip(X[:8], tagger.predict_proba(X[:8]), strict=True):
        with torch.no_grad():
            inputs = tokenizer(" ".join(words), return_tensors="pt")
            logits = model.eval()(**inputs).logits[0, first : first + len(words)]
        expected = logits.softmax(dim=1)[:, order].numpy()
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)
    assert tagger.n_epochs_ == 0
    named = tagger.model_.model.config.id2label
    assert named == dict(enumerate(tagger.classes_.tolist()))
    tagger.set_params(max_epochs=2).fit(X, y)
    assert isinstance(tagger.model_, modules.ArchitectureModel)


@pytest.mark.parametrize(
    "names", [["O", "B-LOC", "I-LOC"], ["LABEL_0", "LABEL_1"], ["o", "b-pos"]], ids=str
)
@pytest.mark.parametrize("max_epochs", [0, 1])
def test_a_trained_head_with_other_tags_gives_way(names, max_epochs, X, y, tmp_path):
    directory = save_token_head(tmp_path, names)
    tagger = make_tagger(directory, max_epochs=max_epochs).fit(X, y)
    assert isinstance(tagger.model_, modules.PooledModel)
    assert tagger.classes_.tolist() == sorted_tags(y)
    assert tagger.score(X, y) > 0.4


@pytest.mark.parametrize("architecture", sorted(set(TOKENIZER_OF) - {"bert"}))
def test_other_architectures(architecture, tiny_models, X, y):
    tagger = make_tagger(tiny_models[architecture], max_epochs=8).fit(X, y)
    assert tagger.score(X, y) > 0.6
    long = [list(itertools.chain(*X))]
    assert list(map(len, tagger.predict(long))) == list(map(len, long))


CHINESE = ["我住在北京。", "北京是中国的首都。", "她去过上海和北京吗？", "上海很大。"]


PLACES = ["北京", "上海", "中国"]


@pytest.fixture(scope="module")
def chinese_model(tmp_path_factory):
    """Return a tiny BERT with a tokenizer of word pieces trained on the sentences."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=120, special_tokens=special, show_progress=False
    )
    tokenizer.train_from_iterator(CHINESE, trainer)
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=64,
    )
    directory = tmp_path_factory.mktemp("chinese")
    return save(directory, transformers.AutoModel, tokenizer, layers=2)


def test_chinese_characters(chinese_model):
    def spell(text):
        tags = ["O"] * len(text)
        for place, i in itertools.product(PLACES, range(len(text))):
            if text.startswith(place, i):
                tags[i : i + 2] = ["B-LOC", "I-LOC"]
        return tags

    texts = CHINESE * 8
    tagger = make_tagger(chinese_model, max_epochs=15)
    tagger.fit(texts, [spell(text) for text in texts])
    text = "👩‍🚀 我去过中国，e\u0301北京、上海。" + "她住在北京。" * 40
    entities = tagger.predict_entities([text])[0]
    assert [e["text"] for e in entities] == ["中国", "北京", "上海"] + ["北京"] * 40
    for entity in entities:
        assert text[entity["start"] : entity["end"]] == entity["text"]
    assert entities[0]["start"] == 7
    assert tagger.predict_entities(["Beijing\u0301 𠀀𠀁"])[0] == []


def test_a_word_pattern_may_be_changed_after_fit(fitted_tagger):
    tagger = copy.copy(fitted_tagger).set_params(word_pattern=r"\S+")
    assert list(map(len, tagger.predict(["a good-film, so"]))) == [3]
    assert list(map(len, fitted_tagger.predict(["a good-film, so"]))) == [6]
    with pytest.raises(ValueError, match="word_pattern"):
        tagger.set_params(word_pattern="[").predict(["a film"])
