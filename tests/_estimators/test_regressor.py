"""TransformerRegressor, as a user meets it."""

import copy
import pickle
import random
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from scipy import sparse
from sklearn.base import clone
from sklearn.dummy import DummyRegressor
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.metrics import r2_score
from sklearn.model_selection import cross_val_score
from sklearn.utils import get_tags
from tiny_models import (
    NEGATIVE,
    NEUTRAL,
    POSITIVE,
    TOKENIZER_OF,
    WIDTH,
    assert_close,
    save_tiny_model,
)

from sktransformers import TransformerClassifier, TransformerRegressor
from sktransformers._tasks.numbers import check_regression_y, make_number_task
from sktransformers._training.head_init import init_head
from sktransformers.exceptions import HeadMismatchError, TextValueError

NAN, INF = float("nan"), float("inf")
PARAMS = {
    "batch_size": 16,
    "device": "cpu",
    "precision": "float32",
    "random_state": 0,
}


def make_reviews(n, *, seed=0):
    """Return texts of four words of praise or blame each, and how many praise."""
    rng = random.Random(seed)
    texts, stars = [], []
    for i in range(n):
        n_good = i % 5
        words = rng.choices(NEUTRAL, k=rng.randint(2, 9))
        words += rng.choices(POSITIVE, k=n_good) + rng.choices(NEGATIVE, k=4 - n_good)
        rng.shuffle(words)
        texts.append(" ".join(words))
        stars.append(float(n_good))
    return texts, np.array(stars)


@pytest.fixture(scope="module")
def X():  # noqa: N802
    return make_reviews(64)[0]


@pytest.fixture(scope="module")
def y():
    return make_reviews(64)[1]


@pytest.fixture
def regressor(tiny_model):
    """Return an unfitted regressor that trains in a fraction of a second."""
    return TransformerRegressor(tiny_model, max_epochs=2, learning_rate=1e-3, **PARAMS)


@pytest.fixture(scope="module")
def fitted(tiny_model, X, y):
    """Return a regressor fitted on the reviews; not to be changed."""
    params = {"max_epochs": 8, "learning_rate": 3e-3, **PARAMS}
    return TransformerRegressor(tiny_model, **params).fit(X, y)


def same(a, b, X):
    return np.array_equal(a.predict(X), b.predict(X))


# What it learns


def test_it_learns_and_generalizes(fitted, X, y):
    texts, stars = make_reviews(100, seed=1)
    dummy = DummyRegressor().fit(X, y)
    assert fitted.score(texts, stars) > 0.6 > dummy.score(texts, stars)
    predicted = fitted.predict(texts)
    assert predicted.dtype == np.float64
    assert fitted.score(texts, stars) == r2_score(stars, predicted)
    weights = np.arange(100.0)
    expected = r2_score(stars, predicted, sample_weight=weights)
    assert fitted.score(texts, stars, sample_weight=weights) == expected


@pytest.mark.parametrize(
    ("factor", "offset", "max_epochs"),
    [(1000, 5, 0), (-1e-3, 0, 1), (1e200, 0, 1), (1e-200, 0, 1), (1, 1e6, 1)],
)
def test_units_do_not_matter(factor, offset, max_epochs, regressor, X, y):
    # In bfloat16, which is the default on some processors, roundings would grow.
    regressor.set_params(max_epochs=max_epochs, precision="float32")
    a = clone(regressor).fit(X, y).predict(X)
    b = (clone(regressor).fit(X, y * factor + offset).predict(X) - offset) / factor
    assert_close(b, a, rtol=1e-4)


@pytest.mark.parametrize("max_epochs", [0, 12])
def test_two_targets_of_very_different_scale(max_epochs, regressor, X, y):
    n_words = np.array([len(text.split()) for text in X])
    Y = np.column_stack([y * 1e6, n_words * 1e-3 + 7])
    regressor.set_params(max_epochs=max_epochs, learning_rate=3e-3).fit(X, Y)
    predicted = regressor.predict(X)
    assert predicted.shape == (64, 2)
    both = r2_score(Y, predicted, multioutput="raw_values")
    assert (both > 0.5).all()
    assert regressor.score(X, Y) == both.mean()


@pytest.mark.parametrize("value", [0, -3, 0.1, 1e6, 1e-6])
def test_a_constant_is_predicted(value, regressor, X):
    regressor.fit(X, np.full(64, value))
    tolerance = 1e-6 * abs(value or 1)
    np.testing.assert_allclose(regressor.predict(X), value, rtol=0, atol=tolerance)
    Y = np.column_stack([np.full(64, value), np.arange(64)])
    predicted = regressor.fit(X, Y).predict(X)
    assert np.abs(predicted[:, 0] - value).max() <= 0.1 * abs(value or 1)
    assert predicted[:, 1].std() > 0.1


def test_one_text_is_enough(regressor):
    predicted = regressor.fit(["a film"], [7.5]).predict(["a film", "a plot"])
    np.testing.assert_allclose(predicted, 7.5, rtol=1e-6)


@pytest.mark.parametrize(
    ("wrap", "shape"),
    [
        (list, (64,)),
        (lambda y: y.astype(np.int8), (64,)),
        (lambda y: y > 0, (64,)),
        (lambda y: [Fraction(int(v), 3) for v in y], (64,)),
        (lambda y: [Decimal(int(v)) for v in y], (64,)),
        (lambda y: pd.Series(y, index=range(64, 0, -1)), (64,)),
        (lambda y: pd.Series(y, dtype="Int64"), (64,)),
        (lambda y: pl.Series(y), (64,)),
        (lambda y: y[:, None], (64, 1)),
        (lambda y: pd.DataFrame({"a": y, "b": -y}), (64, 2)),
        (lambda y: pl.DataFrame({"a": y, "b": -y}), (64, 2)),
        (lambda y: sparse.csr_array(y[:, None]), (64, 1)),
    ],
    ids=[
        *["list", "int", "bool", "fractions", "decimals", "Series", "Int64", "polars"],
        *["column", "DataFrame", "polars frame", "sparse"],
    ],
)
def test_numbers_of_every_kind(wrap, shape, regressor, X, y):
    given = wrap(y)
    predicted = regressor.set_params(max_epochs=1).fit(X, given).predict(X)
    assert predicted.shape == shape
    assert predicted.dtype == np.float64
    linear = LinearRegression().fit(np.eye(64), check_regression_y(given))
    assert linear.predict(np.eye(64)).shape == shape
    expected = np.asarray(given.toarray() if sparse.issparse(given) else given, float)
    assert r2_score(expected, predicted) > 0.2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({3: NAN}, r"y\[3\] is nan"),
        ({5: INF}, r"y\[5\] is inf"),
        ({2: None}, r"y\[2\] is None"),
        ({4: pd.NA}, r"y\[4\] is <NA>"),
        ({4: Decimal("NaN")}, r"y\[4\] is nan"),
        ({6: "4"}, r"y\[6\] is '4', which is not a number"),
        ({6: 1j}, r"Complex data not supported"),
        ({6: [1.0]}, r"numpy\.stack"),
    ],
    ids=str,
)
def test_what_is_no_number_is_named_with_its_row(change, message, regressor, X, y):
    given = y.tolist()
    for row, value in change.items():
        given[row] = value
    with pytest.raises(ValueError, match=message):
        regressor.fit(X, given)
    assert not hasattr(regressor, "model_")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "requires y to be passed"),
        ("five", "single str"),
        (3.5, r"shape \(\)"),
        ([], r"shape \(0,\)"),
        (np.ones((64, 0)), r"shape \(64, 0\)"),
        (np.ones((64, 2, 2)), r"shape \(64, 2, 2\)"),
        ([1.0] * 63, "inconsistent"),
        (["good"] * 64, r"y\[0\] is 'good', which is not a number.*Classifier"),
        (np.full(64, "2020", dtype="datetime64[D]"), r"y\[0\] is .*2020.*not a number"),
        (np.ones(64, dtype="timedelta64[ns]"), "not a number"),
        (np.full((64, 2), [1, NAN]), r"y\[0\] is nan"),
    ],
    ids=str,
)
def test_a_y_that_cannot_be(given, message, regressor, X):
    with pytest.raises(ValueError, match=message):
        regressor.fit(X, given)


def test_bad_texts_name_their_row(regressor, y):
    with pytest.raises(TextValueError, match=r"X\[1\]"):
        regressor.fit(["good", None], y[:2])


# Weights


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"max_epochs": 0},
        {"early_stopping": True, "validation_fraction": 0.3},
        {"long_text": "window", "max_length": 8},
        {"pooling": "head"},
    ],
    ids=str,
)
def test_a_text_of_weight_zero_is_as_if_it_were_not_there(params, regressor, X, y):
    y = np.where(np.arange(64) % 4, y, 1e9)
    rows = np.flatnonzero(np.arange(64) % 4)
    weights = np.arange(64) % 4.0
    a = clone(regressor).set_params(**params).fit(X, y, sample_weight=weights)
    b = clone(regressor).set_params(**params)
    b.fit([X[i] for i in rows], y[rows], sample_weight=weights[rows])
    assert same(a, b, X)


def test_weights_decide_between_contradicting_texts(regressor):
    X, y = ["a film"] * 20, [10.0, 20.0] * 10
    for weight in (9, 1 / 9):
        regressor.fit(X, y, sample_weight=[1, weight] * 10)
        expected = np.average([10, 20], weights=[1, weight])
        np.testing.assert_allclose(regressor.predict(["a film"]), expected, atol=0.3)


def test_the_moments_are_those_of_repeated_rows():
    y = np.array([[1.0, 5e5], [2.0, 5e5], [7.0, 5e5]])
    weights = [1, 3, 0]
    target, repeated = make_number_task(y, weights), y[[0, 1, 1, 1]]
    np.testing.assert_allclose(target.mean, repeated.mean(axis=0))
    np.testing.assert_allclose(target.scale, [repeated[:, 0].std(), 5e5])
    encoded = target.encode(repeated)
    assert encoded.dtype == np.float32
    np.testing.assert_allclose(encoded.std(axis=0), [1, 0], atol=1e-6)
    np.testing.assert_allclose(target.decode(encoded), repeated, rtol=1e-6)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([-1.0] + [1.0] * 63, "[Nn]egative"),
        ([0.0] * 64, "[Ss]ample weights .*zero"),
        ([NAN] + [1.0] * 63, "NaN"),
        ([1.0] * 63, "shape"),
    ],
)
def test_bad_weights(weights, message, regressor, X, y):
    with pytest.raises(ValueError, match=message):
        regressor.fit(X, y, sample_weight=weights)
    assert not hasattr(regressor, "model_")


# What scikit-learn documents


def test_tags(regressor):
    tags = get_tags(regressor)
    assert tags.estimator_type == "regressor"
    assert tags.target_tags.multi_output
    assert tags.target_tags.required
    assert not tags.regressor_tags.poor_score


def test_it_has_the_classifiers_parameters(regressor):
    of_classifier = TransformerClassifier().get_params()
    del of_classifier["class_weight"]
    assert TransformerRegressor().get_params() == of_classifier
    assert list(regressor._parameter_constraints) >= list(regressor.get_params())
    with pytest.raises(TypeError, match="positional"):
        TransformerRegressor("model", "main")


def test_transform_gives_the_vectors_that_the_head_reads(fitted, X):
    vectors = fitted.transform(X)
    assert vectors.shape == (64, WIDTH)
    head = fitted.model_.head
    outputs = vectors @ head.weight.detach().numpy().T + head.bias.detach().numpy()
    target = fitted._task
    expected = outputs[:, 0] * target.scale + target.mean
    assert_close(expected, fitted.predict(X))
    names = [f"transformerregressor{i}" for i in range(WIDTH)]
    assert fitted.get_feature_names_out().tolist() == names
    frame = copy.copy(fitted).set_output(transform="pandas").transform(X)
    assert frame.columns.tolist() == names


def test_copies_predict_bit_equally(fitted, X):
    for restored in (pickle.loads(pickle.dumps(fitted)), copy.deepcopy(fitted)):
        assert same(restored, fitted, X)
    assert not hasattr(clone(fitted), "model_")


def test_a_series_is_read_by_position(regressor, X, y):
    index = np.random.default_rng(0).permutation(64)
    plain = clone(regressor).fit(X, y)
    series = clone(regressor).fit(
        pd.Series(X, index=index), pd.Series(y, index=index[::-1])
    )
    assert same(plain, series, X)


def test_cross_validation(regressor, X, y):
    scores = cross_val_score(regressor.set_params(max_epochs=0), X, y, cv=3)
    assert scores.mean() > 0.3


def test_windows_are_averaged(fitted):
    regressor = copy.copy(fitted).set_params(long_text="window", max_length=16)
    words = ["film"] * 6 + ["good"] * 6 + ["plot", "bad", "great"] * 2
    whole, windows = [" ".join(words)], [" ".join(words[:14]), " ".join(words[4:])]
    expected = regressor.predict(windows).mean()
    tolerance = 1e-5 * 4  # of stars, which go from 0 to 4
    np.testing.assert_allclose(
        regressor.predict(whole), expected, rtol=0, atol=tolerance
    )


# Early stopping, warm start, partial fit


def test_early_stopping_scores_r2(regressor, X, y):
    regressor.set_params(early_stopping=True, validation_fraction=0.25, max_epochs=4)
    history = regressor.fit(X, y * 1000).history_
    for record in history:  # of 16 texts whose y has about the same variance
        assert abs(1 - record["valid_loss"] - record["valid_score"]) < 0.5
        assert record["valid_score"] <= 1
    assert history[-1]["valid_score"] > 0.3
    lone = clone(regressor).set_params(validation_fraction=0.01).fit(X, y)
    assert [record["valid_score"] for record in lone.history_] == [0.0] * 4


def test_warm_start_keeps_the_units_of_the_first_fit(regressor, X, y):
    warm = regressor.set_params(warm_start=True).fit(X, y * 100)
    target = warm._task
    assert same(copy.copy(warm).set_params(max_epochs=0).fit(X, y), warm, X)
    warm.set_params(max_epochs=10, head_learning_rate=0.03)
    predicted = warm.fit(X, y * 100 + 300).predict(X)
    assert warm._task is target
    assert abs(predicted.mean() - 500) < 100
    with pytest.raises(ValueError, match=r"1 numbers for each text.*\(64, 2\)"):
        warm.fit(X, np.column_stack([y, y]))


def test_partial_fit_learns_from_call_to_call(regressor, X, y):
    for _ in range(8):
        for part in (slice(0, 32), slice(32, 64)):
            regressor.partial_fit(X[part], y[part], sample_weight=np.ones(32))
    assert regressor.n_epochs_ == 1
    assert regressor.score(X, y) > 0.6
    target = make_number_task(y[:32], None)
    np.testing.assert_array_equal(regressor._task.mean, target.mean)
    with pytest.raises(ValueError, match="1 numbers for each text"):
        regressor.partial_fit(X, np.column_stack([y, y]))


def test_partial_fit_may_start_from_one_number(regressor, X, y):
    regressor.partial_fit(X[:1], [200.0])
    regressor.set_params(learning_rate=3e-3, head_learning_rate=0.01)
    for _ in range(12):
        regressor.partial_fit(X, y * 100)
    assert regressor.score(X, y * 100) > 0.3


# Heads


def test_without_training_it_is_ridge_regression(regressor, X, y):
    regressor.set_params(max_epochs=0, trainable="head").fit(X, y)
    vectors = regressor.transform(X)
    spread = ((vectors - vectors.mean(axis=0)) ** 2).sum(axis=1).mean()
    errors = []
    for penalty in regressor._task.head_penalties:
        ridge = Ridge(alpha=penalty / 2 * spread).fit(vectors, y)
        errors.append(np.abs(ridge.predict(vectors) - regressor.predict(X)).max())
    assert min(errors) < 0.02


@pytest.mark.parametrize("penalty", [0.3, 20.0])
def test_the_start_is_ridge_regression_for_each_column(penalty):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(80, 5))
    y = features @ rng.normal(size=(5, 2)) * [1, 1e4] + rng.normal(size=(80, 2))
    target = make_number_task(y, None)
    head = torch.nn.Linear(5, 2, dtype=torch.float64)
    tensors = map(torch.from_numpy, (features, target.encode(y), np.ones(80)))
    init_head(head, *tensors, target.loss, penalty=penalty / 2)
    outputs = head(torch.from_numpy(features)).detach().numpy()
    spread = ((features - features.mean(axis=0)) ** 2).sum(axis=1).mean()
    expected = Ridge(alpha=penalty / 2 * spread).fit(features, y).predict(features)
    difference = (target.decode(outputs) - expected) / target.scale
    np.testing.assert_allclose(difference, 0, atol=1e-3)


def own_predictions(directory, texts):
    """Return what plain transformers computes, text by text."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from sktransformers._models.loading import quiet

    with quiet():
        model = AutoModelForSequenceClassification.from_pretrained(directory).eval()
        tokenizer = AutoTokenizer.from_pretrained(directory)
    with torch.no_grad():
        rows = [model(**tokenizer(t, return_tensors="pt")).logits[0] for t in texts]
    return torch.stack(rows).double().numpy()


@pytest.mark.parametrize("architecture", TOKENIZER_OF)
def test_a_trained_head_predicts_in_its_own_units(
    architecture, regressor, X, y, tmp_path
):
    directory = save_tiny_model(tmp_path, architecture, head=True, num_labels=1)
    regressor.set_params(model=directory, max_epochs=0)
    expected = own_predictions(directory, X[:8])[:, 0]
    for units in (y, y * 1000 + 5):  # even if y has others
        predicted = regressor.fit(X, units).predict(X[:8])
        np.testing.assert_allclose(predicted, expected, atol=1e-3 * units.std())
    assert regressor.model_.model.config.problem_type == "regression"
    before = regressor.fit(X, y).score(X, y)
    assert regressor.set_params(max_epochs=8).fit(X, y).score(X, y) > before


@pytest.mark.parametrize("architecture", ["bert", "gpt2"])
def test_a_trained_head_learns_other_units(architecture, regressor, X, y, tmp_path):
    directory = save_tiny_model(tmp_path, architecture, head=True, num_labels=1)
    regressor.set_params(model=directory, max_epochs=2)
    y = y * 1e3 + 1e6  # in the checkpoint's units, R^2 is below -1e5
    regressor.fit(X, y)
    assert regressor.score(X, y) > -2
    regressor.save_pretrained(tmp_path / "saved")
    again = type(regressor).from_pretrained(tmp_path / "saved")
    assert_close(again.predict(X), regressor.predict(X))


def test_a_trained_head_of_two_numbers(regressor, X, y, tmp_path):
    directory = save_tiny_model(
        tmp_path, head=True, num_labels=2, problem_type="regression"
    )
    regressor.set_params(model=directory, max_epochs=0)
    regressor.fit(X, np.column_stack([y, y * 10 + 3]))
    expected = own_predictions(directory, X[:8])
    np.testing.assert_allclose(regressor.predict(X[:8]), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("config", "n_columns", "message"),
    [
        ({"num_labels": 2}, 2, "gives labels, not numbers.*pooling='mean'"),
        ({"num_labels": 5}, 1, "has 5 labels, but y has 1.*pooling='mean'"),
        (
            {"num_labels": 1, "problem_type": "multi_label_classification"},
            1,
            "gives labels, not numbers",
        ),
    ],
)
def test_a_trained_head_for_labels(config, n_columns, message, regressor, X, tmp_path):
    Y = np.random.default_rng(0).normal(size=(64, n_columns))
    regressor.set_params(model=save_tiny_model(tmp_path, head=True, **config))
    with pytest.raises(HeadMismatchError, match=message):
        regressor.fit(X, Y)
    assert regressor.set_params(pooling="mean").fit(X, Y).predict(X).shape == Y.shape


@pytest.mark.parametrize("architecture", ["bert", "gpt2"])
def test_a_new_head_of_the_architecture(architecture, regressor, tiny_models, X, y):
    regressor.set_params(model=tiny_models[architecture], pooling="head", max_epochs=15)
    y = y * 50 + 9
    assert regressor.set_params(learning_rate=3e-3).fit(X, y).score(X, y) > 0.2


# What comes from the base


@pytest.mark.parametrize("trainable", ["head", 1])
def test_frozen_layers(trainable, regressor, tiny_model, X, y):
    regressor.set_params(trainable=trainable, max_epochs="auto").fit(X, y)
    assert regressor.score(X, y) > 0.3
    fresh = clone(regressor).set_params(max_epochs=0).fit(X, y)
    first = "embeddings.word_embeddings.weight"
    weights = [m.model_.encoder.state_dict()[first] for m in (regressor, fresh)]
    assert torch.equal(*weights)


@pytest.mark.parametrize("head", [False, True])
def test_an_adapter_in_a_pickle(head, regressor, X, y, tmp_path):
    pytest.importorskip("peft")
    # The head of GPT-2 has no bias, and gets one from the standardization.
    directory = save_tiny_model(tmp_path, "gpt2", head=head, num_labels=1)
    regressor.set_params(model=directory, lora_rank=2, learning_rate=1e-2)
    regressor.fit(X, y)
    restored = pickle.loads(pickle.dumps(regressor))
    assert same(restored, regressor, X)
    merged = restored.merge_adapter().predict(X)
    np.testing.assert_allclose(merged, regressor.predict(X), atol=1e-4)


@pytest.mark.parametrize(
    "backend", [pytest.param(b, marks=pytest.mark.slow) for b in ("openvino", "onnx")]
)
def test_other_runtimes(backend, fitted, X):
    pytest.importorskip("openvino" if backend == "openvino" else "onnxruntime")
    regressor = copy.deepcopy(fitted).accelerate_inference(backend)
    np.testing.assert_allclose(regressor.predict(X), fitted.predict(X), atol=1e-3)


class Scores:
    """A callback that keeps the score of each epoch."""

    def __init__(self, X, y):
        self.X, self.y, self.scores = X, y, []

    def setup(self, estimator, context): ...
    def teardown(self, estimator, context): ...
    def on_fit_task_begin(self, estimator, context): ...

    def on_fit_task_end(self, estimator, context, *, fitted_estimator):
        if context.task_name == "epoch":
            self.scores.append(fitted_estimator.score(self.X, self.y))


def test_callbacks_see_predictions_in_units(regressor, X, y):
    y = y * 1000
    scores = Scores(X, y)
    regressor.set_callbacks(scores).fit(X, y)
    assert len(scores.scores) == 2
    assert scores.scores[-1] == pytest.approx(regressor.score(X, y), abs=1e-5)
