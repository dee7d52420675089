"""The tagger and the generator in scikit-learn's tools."""

import numpy as np
import pytest
from cells import Cell, cell
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import make_scorer
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    HalvingGridSearchCV,
    KFold,
    RandomizedSearchCV,
    cross_val_predict,
    cross_val_score,
    cross_validate,
    learning_curve,
    permutation_test_score,
    validation_curve,
)
from sklearn.pipeline import make_pipeline
from tiny_generators import make_generator, make_pairs, save_writer
from tiny_taggers import make_tagged, make_tagger

from sktransformers.metrics import chrf, entity_f1, entity_f1_score

# Entries whose tests are in the estimators' own test files.
ELSEWHERE = [
    (
        Cell(tool, estimator, shows),
        f"_estimators/test_{estimator}*.py::test_{test}",
    )
    for tool, estimator, shows, test in [
        (
            "Pipeline, last step",
            "tagger",
            "Equal to the estimator alone",
            "a_pipeline_predicts_as_its_last_step",
        ),
        (
            "Pipeline, last step",
            "generator",
            "Equal to the estimator alone",
            "as_the_last_step_of_a_pipeline",
        ),
        (
            "Pipeline, inner step",
            "generator",
            "Generated texts as input of a classifier",
            "what_it_writes_is_read_by_the_next_step",
        ),
        (
            "FeatureUnion",
            "tagger",
            "Entity counts next to TF-IDF features",
            "counts_of_entities_stand_in_a_feature_union",
        ),
        (
            "ColumnTransformer",
            "tagger",
            "Entity counts of a text column",
            "counts_of_entities_stand_in_a_feature_union",
        ),
        (
            "cross_val_score",
            "tagger",
            "Lists, arrays and Series give the same scores, by entity F1",
            "cross_validation",
        ),
        (
            "cross_val_score",
            "generator",
            "Scores the generated texts by chrF",
            "cross_validation_scores_what_is_written",
        ),
        (
            "cross_val_predict",
            "tagger",
            "One tag per word, in input order",
            "cross_validated_predictions_come_in_order",
        ),
        (
            "GridSearchCV",
            "tagger",
            "Two jobs give the same result as one",
            "a_grid_search_gives_the_same_with_more_jobs",
        ),
        (
            "GridSearchCV",
            "generator",
            "Over generation parameters",
            "a_search_over_how_it_writes",
        ),
        (
            "sample_weight, by metadata routing",
            "tagger",
            "A weight of 0 is equivalent to removing the text",
            "weights_are_routed",
        ),
    ]
]


@pytest.fixture(scope="module")
def tagged():
    """Return lists of words and their tags."""
    return make_tagged(32)


@pytest.fixture
def tagger(tiny_model):
    """Return an unfitted tagger that trains quickly."""
    return make_tagger(tiny_model, max_epochs=4, learning_rate=1e-2)


@pytest.fixture(scope="module")
def writer(tmp_path_factory):
    """Return the directory of a tiny generative model."""
    return save_writer(tmp_path_factory.mktemp("llama"), "llama")


@pytest.fixture(scope="module")
def pairs():
    """Return letters as inputs, and the next letters as targets."""
    return make_pairs(32)


@pytest.fixture
def generator(writer):
    """Return an unfitted generator that trains quickly."""
    return make_generator(writer, max_epochs=6, prompt_template="{text} it")


@pytest.fixture(params=["tagger", "generator"])
def task(request):
    """Return an unfitted estimator, its training data and its scorer."""
    data = {"tagger": "tagged", "generator": "pairs"}[request.param]
    scorer = {"tagger": entity_f1, "generator": chrf}[request.param]
    X, y = request.getfixturevalue(data)
    return request.getfixturevalue(request.param), X, y, scorer


def at(values, rows):
    return [values[i] for i in rows]


@cell(
    "cross_validate",
    "tagger",
    shows="Several scorers; equal to a manual loop over the folds",
)
@cell(
    "cross_validate",
    "generator",
    shows="Several scorers; equal to a manual loop over the folds",
)
def test_cross_validate(task):
    estimator, X, y, scorer = task
    count = make_scorer(lambda true, predicted: len(predicted))
    result = cross_validate(
        estimator,
        X,
        y,
        cv=2,
        scoring={"own": scorer, "n": count},
        return_estimator=True,
    )
    assert result["test_n"].tolist() == [16, 16]
    for i, (train, test) in enumerate(KFold(2).split(X)):
        by_hand = clone(estimator).fit(at(X, train), at(y, train))
        assert result["test_own"][i] == by_hand.score(at(X, test), at(y, test))
        expected = by_hand.predict(at(X, test))
        assert list(result["estimator"][i].predict(at(X, test))) == list(expected)


@cell("cross_val_predict", "generator", shows="One text per input, in input order")
def test_texts_of_held_out_sources(generator, pairs):
    X, y = pairs
    written = cross_val_predict(generator, X, y, cv=2)
    for train, test in KFold(2).split(X):
        by_hand = clone(generator).fit(at(X, train), at(y, train))
        assert at(written, test) == by_hand.predict(at(X, test)).tolist()


@cell("RandomizedSearchCV", "tagger", shows="Samples candidates and selects the best")
@cell(
    "RandomizedSearchCV", "generator", shows="Samples candidates and selects the best"
)
def test_randomized_search(task):
    estimator, X, y, scorer = task
    rates = {"learning_rate": [1e-6, 1e-2], "max_epochs": [10]}
    search = RandomizedSearchCV(
        estimator, rates, n_iter=2, cv=2, scoring=scorer, random_state=0
    ).fit(X, y)
    assert search.best_params_["learning_rate"] == 1e-2
    assert search.score(X, y) == search.best_estimator_.score(X, y)


LONGEST = '`resource="max_epochs"`: the best candidates train longest'


@cell("HalvingGridSearchCV", "tagger", shows=LONGEST)
@cell("HalvingGridSearchCV", "generator", shows=LONGEST)
def test_halving_grid_search(task):
    estimator, X, y, scorer = task
    search = HalvingGridSearchCV(
        estimator,
        {"learning_rate": [1e-6, 1e-2]},
        resource="max_epochs",
        min_resources=5,
        max_resources=10,
        factor=2,
        cv=2,
        scoring=scorer,
        random_state=0,
    ).fit(X, y)
    assert search.n_resources_ == [5, 10]
    assert search.best_params_ == {"learning_rate": 1e-2, "max_epochs": 10}


@cell("learning_curve", "tagger", shows="One score per training size")
@cell("learning_curve", "generator", shows="One score per training size")
def test_learning_curve(task):
    estimator, X, y, scorer = task
    sizes, _, test = learning_curve(
        estimator, X, y, train_sizes=[4, 16], cv=2, scoring=scorer
    )[:3]
    assert sizes.tolist() == [4, 16]
    splits = list(KFold(2).split(X))
    expected = cross_val_score(estimator, X, y, cv=splits, scoring=scorer)
    assert np.array_equal(test[1], expected)


@cell(
    "validation_curve",
    "tagger",
    shows="The training score increases with the number of epochs",
)
@cell(
    "validation_curve",
    "generator",
    shows="The training score increases with the number of epochs",
)
def test_validation_curve(task):
    estimator, X, y, scorer = task
    train, _ = validation_curve(
        estimator,
        X,
        y,
        param_name="max_epochs",
        param_range=[1, 12],
        cv=2,
        scoring=scorer,
    )
    assert train[1].mean() > train[0].mean()


@cell(
    "`set_output`", "tagger", shows="pandas and polars data frames with feature names"
)
@pytest.mark.parametrize("container", ["pandas", "polars"])
def test_counts_of_entities_come_as_frames(container, tagger, tagged):
    tagger.fit(*tagged)
    counts = tagger.transform(tagged[0])
    frame = tagger.set_output(transform=container).transform(tagged[0])
    assert list(frame.columns) == tagger.get_feature_names_out().tolist()
    assert type(frame).__module__.split(".")[0] == container
    assert np.array_equal(frame.to_numpy(), counts)


@cell(
    "HTML representation", "tagger", shows="Shows the parameters and the fitted state"
)
@cell(
    "HTML representation",
    "generator",
    shows="Shows the parameters and the fitted state",
)
def test_the_html_representation(task):
    estimator, X, y, _ = task
    assert "Not fitted" in estimator._repr_html_()
    html = estimator.set_params(max_epochs=0).fit(X, y)._repr_html_()
    assert type(estimator).__name__ in html
    assert "<span>Fitted" in html


@cell(
    "permutation_test_score",
    "tagger",
    shows="True tags score higher than permuted tags",
)
def test_permutation_test_score(tagger, tagged):
    X = [words[:3] for words in tagged[0] if len(words) >= 3]
    y = [tags[:3] for tags in tagged[1] if len(tags) >= 3]
    tagger.set_params(max_epochs=20, learning_rate=2e-2)
    score, shuffled, _ = permutation_test_score(
        tagger, X, y, cv=2, n_permutations=2, scoring=entity_f1, random_state=0
    )
    assert (shuffled < score).all()


@cell(
    "FrozenEstimator",
    "tagger",
    shows="Entity counts of a frozen tagger as features of a classifier",
)
def test_a_classifier_of_counts_of_entities(tagger, tagged):
    X, y = tagged
    tagger.set_params(max_epochs=20, learning_rate=2e-2).fit(X, y)
    labels = [any(tag.endswith("POS") for tag in tags) for tags in y]
    before = tagger.predict(X)
    pipeline = make_pipeline(FrozenEstimator(tagger), LogisticRegression())
    assert pipeline.fit(X, labels).score(X, labels) > 0.7
    assert tagger.predict(X) == before
    assert entity_f1_score(y, before) > 0.4


KEPT = "Applies to the refit on all texts"


def any_score(estimator, X, y, sample_weight=None):
    return 0.0  # chrF knows no weights, and what the fit does is looked at


@cell("sample_weight through GridSearchCV", "tagger", shows=KEPT)
@cell("sample_weight through GridSearchCV", "generator", shows=KEPT)
@cell(
    "sample_weight, by metadata routing",
    "generator",
    shows="A weight of 0 is equivalent to removing the text",
)
def test_weights_in_a_search(task):
    estimator, X, y, _ = task
    estimator.set_params(max_epochs=6)
    kept = np.arange(32) % 4 > 0  # all the tags are among them
    search = GridSearchCV(estimator, {}, cv=2, scoring=any_score)
    passed = clone(search).fit(X, y, sample_weight=kept)
    with config_context(enable_metadata_routing=True):
        asking = clone(estimator).set_fit_request(sample_weight=True)
        routed = clone(search).set_params(estimator=asking)
        routed.fit(X, y, sample_weight=kept)
    rows = np.flatnonzero(kept)
    expected = list(clone(estimator).fit(at(X, rows), at(y, rows)).predict(X))
    assert list(passed.predict(X)) == list(routed.predict(X)) == expected
    assert expected != list(clone(estimator).fit(X, y).predict(X))


@cell("groups", "tagger", shows="No group is in both training and test set")
@cell("groups", "generator", shows="No group is in both training and test set")
def test_groups_reach_the_splitter(task):
    estimator, X, y, scorer = task
    groups = np.arange(32) // 8
    splits = list(GroupKFold(2).split(X, y, groups))
    expected = cross_val_score(estimator, X, y, cv=splits, scoring=scorer)
    search = GridSearchCV(estimator, {}, cv=GroupKFold(2), scoring=scorer, refit=False)
    search.fit(X, y, groups=groups)
    assert search.cv_results_["mean_test_score"][0] == expected.mean()


@cell("`clone`", "tagger", shows="Copies the parameters, but no fitted attributes")
@cell("`clone`", "generator", shows="Copies the parameters, but no fitted attributes")
def test_a_clone_is_not_fitted(task):
    estimator, X, y, _ = task
    fitted = estimator.set_params(max_epochs=1).fit(X, y)
    cloned = clone(fitted)
    assert cloned.get_params() == fitted.get_params()
    with pytest.raises(NotFittedError):
        cloned.predict(X)
    assert list(cloned.fit(X, y).predict(X)) == list(fitted.predict(X))
