"""scikit-learn's own callback protocol, and the progress bar of ``verbose``."""

import copy

import pytest
from recorders import PropagatedRecorder, Recorder
from sklearn.base import clone
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sktransformers.exceptions import DivergenceError


@pytest.fixture
def tiny_classifier(tiny_classifier):
    """Return a classifier that makes four epochs of four steps."""
    return tiny_classifier.set_params(max_epochs=4)


def test_a_fit_has_epochs_which_have_steps(tiny_classifier, sentences):
    recorder = Recorder()
    tiny_classifier.set_callbacks(recorder).set_params(max_epochs=2).fit(*sentences)
    step = [("begin", "step", 0), ("end", "step", 0)]
    epoch = [("begin", "epoch", 4), *4 * step, ("end", "epoch", 4)]
    assert recorder.calls == [("begin", "fit", 2), *2 * epoch, ("end", "fit", 2)]
    assert recorder.set_up == 0


def test_callbacks_do_not_change_the_result(tiny_classifier, sentences):
    X, y = sentences
    plain = clone(tiny_classifier).fit(X, y)
    tiny_classifier.set_callbacks(Recorder(), ScoringMonitor(scoring="accuracy"))
    watched = tiny_classifier.fit(X, y)
    assert (plain.predict_proba(X) == watched.predict_proba(X)).all()


@pytest.mark.parametrize(
    ("stop", "n_epochs", "n_steps"),
    [
        (lambda task, n: task == "epoch" and n == 2, 2, [4, 4]),
        (lambda task, n: task == "epoch", 1, [4]),
        (lambda task, n: task == "step" and n == 6, 4, [4, 2, 4, 4]),
        (lambda task, n: task == "fit", 4, [4, 4, 4, 4]),
    ],
    ids=["second epoch", "first epoch", "sixth step", "fit"],
)
def test_a_callback_ends_an_epoch_or_the_fit(
    stop, n_epochs, n_steps, tiny_classifier, sentences
):
    tiny_classifier.set_callbacks(Recorder(stop)).fit(*sentences)
    assert tiny_classifier.n_epochs_ == n_epochs
    assert [record["n_steps"] for record in tiny_classifier.history_] == n_steps
    assert tiny_classifier.score(*sentences) > 0.5


def test_stopping_is_as_if_there_were_no_more_epochs(tiny_classifier, sentences):
    X, y = sentences
    tiny_classifier.set_params(lr_scheduler_type="constant")
    short = clone(tiny_classifier).set_params(max_epochs=2).fit(X, y)
    tiny_classifier.set_callbacks(Recorder(lambda task, n: task == "epoch" and n == 2))
    stopped = tiny_classifier.fit(X, y)
    assert (short.predict_proba(X) == stopped.predict_proba(X)).all()


def test_early_stopping_and_a_callback(tiny_classifier, sentences):
    recorder = Recorder(lambda task, n: task == "epoch" and n == 2)
    tiny_classifier.set_params(early_stopping=True).set_callbacks(recorder)
    tiny_classifier.fit(*sentences)
    assert tiny_classifier.n_epochs_ == 2
    assert {"valid_loss", "valid_score"} <= tiny_classifier.history_[-1].keys()


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_the_scoring_monitor_has_a_row_an_epoch(method, tiny_classifier, sentences):
    X, y = sentences
    monitor = ScoringMonitor(scoring=["accuracy", "neg_log_loss"])
    tiny_classifier.set_callbacks(monitor)
    if method == "fit":
        tiny_classifier.fit(X, y)
    else:
        tiny_classifier.partial_fit(X, y, classes=["neg", "pos"])
    log = monitor.get_logs().data_as_pandas
    epochs = log[log["task_name"] == "epoch"]
    assert len(epochs) == tiny_classifier.n_epochs_
    assert epochs["accuracy"].iloc[-1] == tiny_classifier.score(X, y)
    if method == "fit":
        assert epochs["neg_log_loss"].is_monotonic_increasing
        assert epochs["neg_log_loss"].nunique() == 4


def test_the_scoring_monitor_sees_the_weights(tiny_classifier, sentences):
    X, y = sentences
    monitor = ScoringMonitor(scoring="accuracy")
    weights = [float(label == "pos") for label in y]
    tiny_classifier.set_callbacks(monitor).fit(X, y, sample_weight=weights)
    assert monitor.get_logs().data[-1]["accuracy"] == 1  # of those that count


def test_the_scoring_monitor_after_a_fit_on_other_columns(tiny_classifier, sentences):
    X, y = sentences
    pairs = [(text, text) for text in X]
    tiny_classifier.set_params(max_epochs=1).fit(pairs, y)
    tiny_classifier.set_callbacks(ScoringMonitor(scoring="accuracy")).fit(X, y)
    assert not hasattr(tiny_classifier, "n_features_in_")


def test_the_estimator_of_a_callback_predicts(tiny_classifier, sentences):
    X, y = sentences
    seen = []

    class Keeper(Recorder):
        def on_fit_task_end(self, estimator, context, *, fitted_estimator, X, y):
            if fitted_estimator is not None:
                assert fitted_estimator.classes_.tolist() == ["neg", "pos"]
                seen.append((context.task_name, fitted_estimator.score(X, y)))

    tiny_classifier.set_callbacks(Keeper()).fit(X, y)
    assert [name for name, _ in seen] == [*4 * ["epoch"], "fit"]
    assert seen[-1][1] == tiny_classifier.score(X, y)


def test_a_failing_fit_tears_callbacks_down(tiny_classifier, sentences, capfd):
    recorder = Recorder()
    tiny_classifier.set_callbacks(recorder).set_params(learning_rate=1e30, verbose=1)
    with pytest.raises(DivergenceError):
        tiny_classifier.fit(*sentences)
    assert recorder.set_up == 0
    assert tiny_classifier._skl_callbacks == [recorder]
    assert not hasattr(tiny_classifier, "_callback_fit_ctx")


# Nested


@pytest.mark.filterwarnings("ignore:The estimator FunctionTransformer does not")
def test_a_search_and_a_pipeline_hand_callbacks_down(tiny_classifier, sentences):
    recorder = PropagatedRecorder()
    pipeline = make_pipeline(FunctionTransformer(), tiny_classifier)
    search = GridSearchCV(
        pipeline, {"transformerclassifier__max_epochs": [1, 2]}, cv=2, refit=True
    )
    search.set_callbacks(recorder).fit(*sentences)
    n_epochs = 2 * 1 + 2 * 2 + search.best_estimator_[-1].n_epochs_
    assert (
        recorder.count("begin", "epoch") == recorder.count("end", "epoch") == n_epochs
    )
    assert recorder.set_up == 0
    assert not hasattr(search.best_estimator_[-1], "_skl_callbacks")


def test_a_callback_inside_a_pipeline_stops_its_classifier(tiny_classifier, sentences):
    recorder = Recorder(lambda task, n: task == "epoch")
    pipeline = make_pipeline(
        FunctionTransformer(), tiny_classifier.set_callbacks(recorder)
    )
    pipeline.fit(*sentences)
    assert pipeline[-1].n_epochs_ == 1


def test_the_scoring_monitor_inside_a_search(tiny_classifier, sentences):
    monitor = ScoringMonitor(scoring="accuracy")
    search = GridSearchCV(
        tiny_classifier.set_callbacks(monitor), {"max_epochs": [1, 2]}, cv=2
    )
    search.fit(*sentences)
    log = monitor.get_logs().data_as_pandas
    expected = 2 * 1 + 2 * 2 + search.best_estimator_.n_epochs_
    assert (log["task_name"] == "epoch").sum() == expected


def test_a_failing_candidate_does_not_stop_a_search(tiny_classifier, sentences):
    recorder = PropagatedRecorder()
    search = GridSearchCV(tiny_classifier, {"learning_rate": [1e-3, 1e30]}, cv=2)
    search.set_callbacks(recorder)
    with (
        pytest.warns(FitFailedWarning, match="DivergenceError"),
        pytest.warns(UserWarning, match="scores are non-finite"),
    ):
        search.fit(*sentences)
    assert search.best_params_ == {"learning_rate": 1e-3}
    assert recorder.set_up == 0


# verbose


def test_verbose_shows_a_bar(tiny_classifier, sentences, capfd):
    X, y = sentences
    quiet = clone(tiny_classifier).fit(X, y)
    assert capfd.readouterr() == ("", "")
    loud = tiny_classifier.set_params(verbose=1).fit(X, y)
    output = capfd.readouterr()
    assert "TransformerClassifier - fit" in output.out
    assert "100%" in output.out
    assert output.err == ""
    assert not hasattr(loud, "_skl_callbacks")
    assert (quiet.predict_proba(X) == loud.predict_proba(X)).all()
    loud.predict(X)
    assert capfd.readouterr() == ("", "")


def test_verbose_leaves_the_callbacks_as_they_were(tiny_classifier, sentences, capfd):
    recorder = Recorder()
    tiny_classifier.set_params(verbose=1).set_callbacks(recorder).fit(*sentences)
    assert tiny_classifier._skl_callbacks == [recorder]
    assert recorder.count("end", "epoch") == 4
    assert "100%" in capfd.readouterr().out


def test_one_progress_bar_is_enough(tiny_classifier, sentences, capfd):
    bar = ProgressBar()
    tiny_classifier.set_params(verbose=1, max_epochs=1).set_callbacks(bar)
    tiny_classifier.fit(*sentences)
    assert tiny_classifier._skl_callbacks == [bar]
    shown = capfd.readouterr().out.rstrip().splitlines()
    assert sum("TransformerClassifier - fit" in line for line in shown) == 1


def test_a_search_shows_no_bars_of_its_candidates(tiny_classifier, sentences, capfd):
    tiny_classifier.set_params(verbose=1, max_epochs=1)
    GridSearchCV(tiny_classifier, {"batch_size": [16, 32]}, cv=2).fit(*sentences)
    assert capfd.readouterr().out == ""


def test_a_progress_bar_for_a_search(tiny_classifier, sentences, capfd):
    search = GridSearchCV(tiny_classifier, {"max_epochs": [1, 2]}, cv=2)
    search.set_callbacks(ProgressBar(max_propagation_depth=None)).fit(*sentences)
    output = capfd.readouterr().out
    assert "GridSearchCV" in output
    assert "TransformerClassifier - fit" in output


def test_copies_share_no_state_of_a_fit(tiny_classifier, sentences):
    recorder = Recorder()
    tiny_classifier.set_callbacks(recorder).fit(*sentences)
    assert copy.copy(tiny_classifier)._skl_callbacks == [recorder]
    assert not hasattr(tiny_classifier, "_callback_fit_ctx")
