"""The classifier in pipelines, feature unions and column transformers."""

import copy

import numpy as np
import pandas as pd
import polars as pl
import pytest
from cells import cell
from numpy.testing import assert_allclose
from sklearn import config_context
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from tiny_models import assert_close

from sktransformers._training import fit as _fitting


def strip(texts):
    return [text.strip() for text in texts]


@cell("Pipeline, last step", shows="Equal to the estimator alone")
def test_a_pipeline_predicts_as_its_last_step(quick, X, y):
    pipeline = make_pipeline(FunctionTransformer(strip), clone(quick)).fit(X, y)
    alone = quick.fit(X, y)
    padded = [f"  {text}\n" for text in X]
    assert np.array_equal(pipeline.predict_proba(padded), alone.predict_proba(X))
    assert pipeline.score(padded, y) == alone.score(X, y)
    assert pipeline.classes_.tolist() == ["neg", "pos"]


@cell("Pipeline, inner step", shows="Embeddings as features of the next step")
def test_its_embeddings_feed_another_classifier(quick, X, y):
    pipeline = make_pipeline(quick, StandardScaler(), LogisticRegression()).fit(X, y)
    embeddings = clone(quick).fit(X, y).transform(X)
    by_hand = make_pipeline(StandardScaler(), LogisticRegression()).fit(embeddings, y)
    assert np.array_equal(pipeline.predict_proba(X), by_hand.predict_proba(embeddings))
    assert pipeline.score(X, y) > 0.8
    names = pipeline[:-1].get_feature_names_out()
    assert names[0] == "transformerclassifier0"
    assert len(names) == 16


@cell("Pipeline with `memory`", shows="A second fit loads the step from the cache")
def test_a_pipeline_that_caches_its_steps(quick, X, y, tmp_path, monkeypatch):
    pipeline = make_pipeline(quick, LogisticRegression(), memory=str(tmp_path))
    first = clone(pipeline).fit(X, y)
    monkeypatch.setattr(_fitting, "fit_model", None)  # no more training
    second = pipeline.fit(X, y)
    assert np.array_equal(first.predict_proba(X), second.predict_proba(X))


@cell("FeatureUnion", shows="Embeddings next to TF-IDF features")
def test_beside_tfidf(quick, X, y):
    union = FeatureUnion([("words", TfidfVectorizer()), ("meaning", quick)])
    features = union.fit_transform(X, y)
    embeddings = clone(quick).fit(X, y).transform(X)
    assert_allclose(features[:, -16:].toarray(), embeddings)
    assert union.get_feature_names_out()[-1] == "meaning__transformerclassifier15"
    assert LogisticRegression().fit(features, y).score(features, y) > 0.9


@cell(
    "ColumnTransformer", shows="A text column selected by name, next to numeric columns"
)
def test_a_text_column_of_a_table(quick, X, y):
    frame = pd.DataFrame({"text": X, "length": [len(text) for text in X]})
    columns = ColumnTransformer(
        [("text", quick, "text"), ("numbers", StandardScaler(), ["length"])]
    ).set_output(transform="pandas")
    pipeline = make_pipeline(columns, LogisticRegression()).fit(frame, y)
    assert pipeline.score(frame, y) > 0.8
    names = columns.get_feature_names_out()
    assert names[0] == "text__transformerclassifier0"
    assert names[-1] == "numbers__length"
    shuffled = frame.sample(frac=1, random_state=0)
    transformed = columns.transform(shuffled)
    assert transformed.index.equals(shuffled.index)
    embeddings = clone(quick).fit(X, y).transform(shuffled["text"])
    assert_close(transformed.iloc[:, :16], embeddings)


@cell(
    "FrozenEstimator",
    shows="Embeddings of a frozen classifier as features of another classifier",
)
def test_a_frozen_model_is_not_fitted_again(fitted_classifier, X, y):
    before = fitted_classifier.transform(X)
    reversed_labels = np.where(y == "pos", "neg", "pos")
    pipeline = make_pipeline(FrozenEstimator(fitted_classifier), LogisticRegression())
    pipeline.fit(X, reversed_labels)
    assert np.array_equal(fitted_classifier.transform(X), before)
    assert pipeline.score(X, reversed_labels) > 0.8


@cell("`set_output`", shows="pandas and polars data frames with feature names")
@pytest.mark.parametrize("container", ["pandas", "polars"])
@pytest.mark.parametrize("is_global", [False, True], ids=["own", "global"])
def test_embeddings_come_as_frames(container, is_global, fitted_classifier, X):
    plain = fitted_classifier.transform(X)
    classifier = copy.copy(fitted_classifier)
    if is_global:
        with config_context(transform_output=container):
            frame = classifier.transform(X)
    else:
        frame = classifier.set_output(transform=container).transform(X)
    assert isinstance(frame, {"pandas": pd, "polars": pl}[container].DataFrame)
    assert list(frame.columns) == classifier.get_feature_names_out().tolist()
    assert np.array_equal(frame.to_numpy(), plain)


@cell(
    "HTML representation", shows="Shows the steps, the parameters and the fitted state"
)
def test_the_html_representation(quick, X, y):
    pipeline = make_pipeline(FunctionTransformer(strip), quick)
    html = pipeline._repr_html_()
    assert "TransformerClassifier" in html
    assert "learning_rate" in html
    assert "Not fitted" in html
    html = pipeline.fit(X, y)._repr_html_()
    assert "<span>Fitted" in html
    assert html.count("Not fitted") == 0


@cell("`clone`", shows="Copies the parameters, but no fitted attributes")
def test_a_clone_is_not_fitted(fitted_classifier, X, y):
    cloned = clone(fitted_classifier)
    assert cloned.get_params() == fitted_classifier.get_params()
    with pytest.raises(NotFittedError):
        cloned.predict(X)
    refitted = cloned.fit(X, y)
    assert np.array_equal(refitted.predict_proba(X), fitted_classifier.predict_proba(X))
