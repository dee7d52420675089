"""The classifier in scikit-learn's displays and inspection tools."""

import numpy as np
import pandas as pd
import pytest
from cells import COLUMN, cell
from numpy.testing import assert_allclose
from sklearn.calibration import CalibrationDisplay, calibration_curve
from sklearn.inspection import PartialDependenceDisplay, permutation_importance
from sklearn.metrics import (
    ConfusionMatrixDisplay,
    DetCurveDisplay,
    PrecisionRecallDisplay,
    PredictionErrorDisplay,
    RocCurveDisplay,
    average_precision_score,
    confusion_matrix,
    det_curve,
    roc_auc_score,
)
from sklearn.model_selection import (
    LearningCurveDisplay,
    ValidationCurveDisplay,
    cross_validate,
    learning_curve,
    validation_curve,
)


@pytest.fixture
def unseen():
    """Return test sentences and their labels, some of them wrong."""
    from tiny_models import make_sentences

    texts, labels = make_sentences(64, seed=1)
    return texts, np.where(np.arange(64) % 8, labels, labels[::-1])


@pytest.fixture
def of_positive(fitted_classifier, unseen):
    """Return the positive probability of each test sentence."""
    return fitted_classifier.predict_proba(unseen[0])[:, 1]


@cell("ConfusionMatrixDisplay", shows="Confusion matrix of `predict`")
def test_confusion_matrix(fitted_classifier, unseen):
    texts, labels = unseen
    display = ConfusionMatrixDisplay.from_estimator(fitted_classifier, texts, labels)
    expected = confusion_matrix(labels, fitted_classifier.predict(texts))
    assert np.array_equal(display.confusion_matrix, expected)
    assert display.display_labels.tolist() == ["neg", "pos"]


@cell("RocCurveDisplay", shows="Curve and area under it, from `predict_proba`")
def test_roc_curve(fitted_classifier, unseen, of_positive):
    display = RocCurveDisplay.from_estimator(fitted_classifier, *unseen)
    expected = roc_auc_score(unseen[1], of_positive)
    assert display.roc_auc == expected
    assert 0.7 < expected < 1


@cell("RocCurveDisplay.from_cv_results", shows="One curve per fold")
@pytest.mark.parametrize("kind", ["list", "column"])
def test_roc_curves_of_folds(kind, quick, X, column, y):
    texts = X if kind == "list" else column
    results = cross_validate(
        quick,
        texts,
        y,
        cv=2,
        scoring="roc_auc",
        return_estimator=True,
        return_indices=True,
    )
    display = RocCurveDisplay.from_cv_results(results, texts, y)
    assert display.roc_auc == pytest.approx(results["test_score"].tolist())


@cell("PrecisionRecallDisplay", shows="Average precision")
def test_precision_recall_curve(fitted_classifier, unseen, of_positive):
    display = PrecisionRecallDisplay.from_estimator(fitted_classifier, *unseen)
    expected = average_precision_score(unseen[1], of_positive, pos_label="pos")
    assert display.average_precision == expected
    assert 0.7 < expected < 1


@cell("DetCurveDisplay", shows="False positive and false negative rates")
def test_det_curve(fitted_classifier, unseen, of_positive):
    display = DetCurveDisplay.from_estimator(fitted_classifier, *unseen)
    fpr, fnr, _ = det_curve(
        unseen[1], of_positive, pos_label="pos", drop_intermediate=True
    )
    assert_allclose(display.fpr, fpr, atol=1e-12)
    assert_allclose(display.fnr, fnr, atol=1e-12)
    assert len(fpr) > 4


@cell("CalibrationDisplay", shows="Predicted probability against observed frequency")
def test_calibration_curve(fitted_classifier, unseen, of_positive):
    display = CalibrationDisplay.from_estimator(fitted_classifier, *unseen, n_bins=4)
    shares, means = calibration_curve(unseen[1] == "pos", of_positive, n_bins=4)
    assert np.array_equal(display.prob_true, shares)
    assert np.array_equal(display.prob_pred, means)


@pytest.fixture(params=["classifier", "regressor"])
def task(request, quick, quick_regressor, y, praise):
    """Return an unfitted estimator and its targets."""
    return (quick, y) if request.param == "classifier" else (quick_regressor, praise)


@cell("LearningCurveDisplay", shows="Equal to `learning_curve`")
@cell("LearningCurveDisplay", "regressor", shows="Equal to `learning_curve`")
def test_learning_curve(task, X):
    options = {"train_sizes": [8, 16], "cv": 2, "shuffle": True, "random_state": 0}
    model, y = task
    display = LearningCurveDisplay.from_estimator(model, X, y, **options)
    assert np.array_equal(
        display.test_scores, learning_curve(model, X, y, **options)[2]
    )


@cell("ValidationCurveDisplay", shows="Equal to `validation_curve`")
@cell("ValidationCurveDisplay", "regressor", shows="Equal to `validation_curve`")
def test_validation_curve(task, X):
    options = {"param_name": "max_epochs", "param_range": [0, 2], "cv": 2}
    model, y = task
    display = ValidationCurveDisplay.from_estimator(model, X, y, **options)
    _, expected = validation_curve(model, X, y, **options)
    assert np.array_equal(display.test_scores, expected)


@cell(
    "permutation_importance",
    shows="The informative column has the highest importance",
    how=COLUMN,
)
@cell(
    "permutation_importance",
    "regressor",
    shows="The informative column has the highest importance",
    how=COLUMN,
)
def test_permutation_importance(task, X):
    frame = pd.DataFrame({"idle": ["the film"] * 64, "telling": X})
    model, y = task
    model.set_params(max_epochs=4).fit(frame, y)
    found = permutation_importance(model, frame, y, n_repeats=2, random_state=0)
    idle, telling = found.importances_mean
    assert idle == 0
    assert telling > 0.2


@cell(
    "PartialDependenceDisplay",
    shows="A text column with few distinct values",
    how=COLUMN,
)
def test_partial_dependence(quick, X, y):
    subjects = ["the film", "the plot"]
    frame = pd.DataFrame({"subject": subjects * 32, "text": X})
    quick.fit(frame, y)
    display = PartialDependenceDisplay.from_estimator(
        quick, frame, ["subject"], categorical_features=["subject"]
    )
    means = [
        quick.predict_proba(frame.assign(subject=subject))[:, 1].mean()
        for subject in subjects
    ]
    assert_allclose(display.pd_results[0]["average"][0], means)


@cell("PredictionErrorDisplay", "regressor", shows="Predicted against true values")
def test_prediction_errors(quick_regressor, X, praise):
    quick_regressor.fit(X, praise)
    display = PredictionErrorDisplay.from_estimator(quick_regressor, X, praise)
    assert np.array_equal(display.y_pred, quick_regressor.predict(X))
