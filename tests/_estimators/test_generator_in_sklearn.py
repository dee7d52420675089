"""Tests of TransformerGenerator with scikit-learn's tools, and of its copies."""

import pickle

import numpy as np
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from tiny_generators import make_generator, of, untrained

from sktransformers import TransformerClassifier, TransformerGenerator
from sktransformers.metrics import chrf


def test_parameters_are_kept_as_they_are_given(writers):
    generator = make_generator(writers["gpt2"], stop_strings=["a"], max_new_tokens=3)
    params = generator.get_params()
    assert params["stop_strings"] == ["a"]
    assert clone(generator).get_params() == params
    assert TransformerGenerator().set_params(**params).get_params() == params
    assert "TransformerGenerator" in generator._repr_html_()
    assert "stop_strings=['a']" in repr(generator)


def test_a_pickle_writes_the_same(kind, fitted_generators, pairs):
    X, y = pairs
    loaded = pickle.loads(pickle.dumps(fitted_generators[kind]))
    assert np.array_equal(loaded.predict(X), fitted_generators[kind].predict(X))
    assert np.array_equal(
        loaded.perplexity(X, y), fitted_generators[kind].perplexity(X, y)
    )
    assert "".join(loaded.stream(X[0])) == loaded.predict(X[:1])[0]


def test_a_pickle_of_a_translator_keeps_its_languages(translators):
    params = {"source_lang": "fra_Latn", "target_lang": "deu_Latn"}
    generator = untrained(translators["nllb"], **params).fit(["a b"], ["c"])
    loaded = pickle.loads(pickle.dumps(generator))
    assert loaded.perplexity(["a"], ["b"]) == generator.perplexity(["a"], ["b"])
    assert loaded.predict(["a b"]) == generator.predict(["a b"])


def test_as_the_last_step_of_a_pipeline(writers, pairs):
    from sklearn.preprocessing import FunctionTransformer

    X, y = pairs
    strip = FunctionTransformer(lambda X: [text.strip() for text in X])
    generator = make_generator(writers["llama"], max_epochs=2)
    pipeline = make_pipeline(strip, generator).fit([f" {text} " for text in X], y)
    alone = clone(generator).fit(X, y)
    assert np.array_equal(pipeline.predict(X), alone.predict(X))
    assert pipeline.score(X, y) == alone.score(X, y)


@pytest.mark.parametrize("output", ["default", "pandas"])
def test_what_it_writes_is_read_by_the_next_step(
    output, fitted_generators, tiny_model, pairs
):
    X, _ = pairs
    labels = ["a" in text for text in X]  # so that the translation has a "b"
    classifier = TransformerClassifier(
        tiny_model, max_epochs=0, device="cpu", random_state=0
    )
    pipeline = make_pipeline(FrozenEstimator(fitted_generators["llama"]), classifier)
    with config_context(transform_output=output):
        pipeline.fit(X, labels)
        predicted = pipeline.predict(X)
    alone = clone(classifier).fit(fitted_generators["llama"].predict(X), labels)
    assert np.array_equal(
        predicted, alone.predict(fitted_generators["llama"].predict(X))
    )


def test_containers_that_are_asked_for_are_left_to_other_steps(
    fitted_generators, tiny_model
):
    classifier = TransformerClassifier(tiny_model, max_epochs=0, device="cpu")
    pipeline = make_pipeline(fitted_generators["llama"], classifier)
    pipeline.set_output(transform="pandas")
    generator = of(fitted_generators["llama"])
    assert generator.set_output(transform="pandas") is generator
    assert isinstance(generator.transform(["a"]), np.ndarray)


def test_cross_validation_scores_what_is_written(writers, pairs):
    params = {"prompt_template": "{text} it", "max_epochs": 20}
    generator = make_generator(writers["llama"], **params)
    scores = cross_val_score(generator, *pairs, scoring=chrf, cv=3)
    assert scores.shape == (3,)
    assert (scores > 0.5).all()
    generator.set_params(max_epochs=1)
    scores = cross_val_score(generator, *pairs, scoring=chrf, cv=3)
    assert np.array_equal(cross_val_score(generator, *pairs, cv=3), scores)


@pytest.mark.slow
def test_a_grid_search_with_two_jobs(writers, pairs):
    generator = make_generator(writers["llama"], max_epochs=6)
    grid = {"learning_rate": [1e-2, 1e-6]}
    search = GridSearchCV(generator, grid, cv=2, n_jobs=2).fit(*pairs)
    assert search.best_params_ == {"learning_rate": 1e-2}
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert len(search.predict(["a b"])) == 1


def test_a_search_over_how_it_writes(writers, pairs):
    X, y = (side[:24] for side in pairs)
    generator = make_generator(writers["llama"], max_epochs=6)
    grid = {"num_beams": [1, 2], "max_new_tokens": [1, 4]}
    search = GridSearchCV(generator, grid, cv=2, scoring=chrf).fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_callbacks_see_texts_written(writers, pairs, capsys):
    generator = make_generator(writers["llama"], max_epochs=2)
    monitor = ScoringMonitor(scoring=chrf)
    generator.set_callbacks(monitor, ProgressBar()).fit(*pairs)
    logs = monitor.get_logs()
    assert logs
    plain = make_generator(writers["llama"], max_epochs=2).fit(*pairs)
    assert np.array_equal(generator.predict(pairs[0]), plain.predict(pairs[0]))
    capsys.readouterr()


def test_nothing_is_printed(writers, pairs, capfd):
    generator = make_generator(writers["bart"], max_epochs=1).fit(*pairs)
    generator.set_params(num_beams=2).predict(["a"])
    assert capfd.readouterr() == ("", "")
