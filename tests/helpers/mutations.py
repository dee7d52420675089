"""Estimators with intentional bugs, each with the check that must detect it."""

# ``python tests/helpers/mutations.py`` updates the tables of docs/estimator_checks.md.

import inspect
import random
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from adapters import NumbersClassifier
from sklearn.utils import shuffle
from text_checks import text_checks

from sktransformers import (
    TransformerClassifier,
    TransformerGenerator,
    TransformerRegressor,
    TransformerTagger,
)
from sktransformers._text.inputs import Texts
from sktransformers.exceptions import TextValueError

PAGE = Path(__file__).parents[2] / "docs" / "estimator_checks.md"
SCIKIT_LEARN = "scikit-learn's "


@dataclass(frozen=True)
class Mutation:
    """A subclass with a bug, a description of the bug, and the check that finds it."""

    cls: type
    bug: str
    check: str


MUTATIONS: list[Mutation] = []


def planted(bug, check):
    """Register a class in ``MUTATIONS``."""

    def add(cls):
        MUTATIONS.append(Mutation(cls, bug, check))
        return cls

    return add


def render(page):
    """Return the page of the documentation with updated tables."""
    checks = [
        (f"`{name}`", inspect.getdoc(check).partition("\n")[0].replace("``", "`"))
        for name, check in text_checks().items()
    ]
    bugs = [(m.bug, m.check.replace("check_", "`check_") + "`") for m in MUTATIONS]
    page = _replace(page, "checks", ("check", "requirement"), checks)
    return _replace(page, "bugs", ("bug", "detected by"), bugs)


def _replace(page, name, heads, rows):
    lines = [heads, ("---", "---"), *rows]
    table = "\n".join(f"| {one} | {other} |" for one, other in lines)
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    pattern = f"{re.escape(begin)}.*{re.escape(end)}"
    return re.sub(pattern, lambda _: f"{begin}\n{table}\n{end}", page, flags=re.DOTALL)


# Input.


@planted("a str is read as a list of characters", "check_bare_string")
class ReadsLetters(TransformerClassifier):
    def _check_X(self, X):
        return super()._check_X(list(X) if isinstance(X, str) else X)


@planted("missing values are converted to str", "check_missing_texts")
class StringifiesMissing(TransformerClassifier):
    def _check_X(self, X):
        if isinstance(X, (list, pd.Series)):
            X = [str(x) if pd.api.types.is_scalar(x) else x for x in X]
        return super()._check_X(X)


@planted("None is converted to the empty string", "check_missing_texts")
class FillsMissing(TransformerClassifier):
    def _check_X(self, X):
        if isinstance(X, list):
            X = ["" if x is None else x for x in X]
        return super()._check_X(X)


@planted("missing values are dropped in prediction", "check_missing_texts")
class DropsMissing(TransformerClassifier):
    def _check_texts(self, X):
        if isinstance(X, list):
            X = [x for x in X if x is not None]
        return super()._check_texts(X)


@planted("bytes are decoded", "check_other_objects")
class DecodesBytes(TransformerClassifier):
    def _check_X(self, X):
        if isinstance(X, list):
            X = [x.decode() if isinstance(x, bytes) else x for x in X]
        return super()._check_X(X)


@planted("numbers are converted to str", "check_other_objects")
class StringifiesNumbers(TransformerClassifier):
    def _check_X(self, X):
        if isinstance(X, list):
            X = [str(x) if isinstance(x, int) else x for x in X]
        return super()._check_X(X)


@planted("an error message does not give the row", "check_errors_name_the_row")
class HidesTheRow(TransformerClassifier):
    def _check_X(self, X):
        try:
            return super()._check_X(X)
        except TextValueError:
            raise TextValueError("X must hold nothing but str.") from None


@planted("dicts and sets are accepted", "check_other_containers")
class ReadsUnordered(TransformerClassifier):
    def _check_X(self, X):
        return super()._check_X(sorted(X) if isinstance(X, (dict, set)) else X)


@planted("iterators are accepted", "check_other_containers")
class ReadsIterators(TransformerClassifier):
    def _check_X(self, X):
        return super()._check_X(list(X) if hasattr(X, "__next__") else X)


@planted("empty X is accepted", "check_no_texts")
class PredictsNothing(TransformerClassifier):
    def predict(self, X):
        if hasattr(X, "__len__") and not len(X):
            return self.classes_[:0]
        return super().predict(X)


@planted("a tuple of texts is read as a pair", "check_containers")
class TakesTuplesForPairs(TransformerClassifier):
    def _check_X(self, X):
        return super()._check_X([X[:2]] * len(X) if isinstance(X, tuple) else X)


@planted("a categorical Series is read as its codes", "check_containers")
class ReadsCodes(TransformerClassifier):
    def _check_X(self, X):
        if isinstance(getattr(X, "dtype", None), pd.CategoricalDtype):
            X = [str(code) for code in X.cat.codes]
        return super()._check_X(X)


@planted("a data frame is read as its column names", "check_one_column_frames")
class ReadsColumnNames(TransformerClassifier):
    def _check_X(self, X):
        if isinstance(X, pd.DataFrame):
            X = (list(X.columns) * len(X))[: len(X)]
        return super()._check_X(X)


@planted("surplus columns are ignored", "check_number_of_columns")
class LeavesColumnsOut(TransformerClassifier):
    def _check_texts(self, X):
        if isinstance(X, pd.DataFrame) and not hasattr(self, "feature_names_in_"):
            X = X.iloc[:, 0]
        return super()._check_texts(X)


@planted("column names are not compared", "check_column_names")
class IgnoresColumnNames(TransformerClassifier):
    def _check_texts(self, X):
        return self._check_X(X)


@planted("a Series is read by its index", "check_series_by_position")
class ReadsSeriesByLabel(TransformerClassifier):
    def _check_X(self, X):
        if isinstance(X, pd.Series) and X.index.is_unique:
            X = [X.loc[label] for label in sorted(X.index)]
        return super()._check_X(X)


@planted("y is aligned with X by index", "check_series_by_position")
class AlignsTarget(TransformerClassifier):
    def fit(self, X, y, sample_weight=None):
        if isinstance(X, pd.Series) and isinstance(y, pd.Series):
            y = y.reindex(X.index)
        return super().fit(X, y, sample_weight)


@planted("folds are read by index", "check_cross_validation_of_series")
class ReadsFoldsByLabel(TransformerClassifier):
    def _check_X(self, X):
        if isinstance(X, pd.Series) and X.index.max() != len(X) - 1:
            X = X.sort_index()
        return super()._check_X(X)


@planted("empty strings are dropped", "check_empty_strings")
class DropsEmptyStrings(TransformerClassifier):
    def _check_texts(self, X):
        texts = super()._check_texts(X)
        return texts.take([i for i, text in enumerate(texts.columns[0]) if text])


@planted("texts of white space are dropped", "check_odd_texts")
class DropsBlanks(TransformerClassifier):
    def _check_texts(self, X):
        texts = super()._check_texts(X)
        column = texts.columns[0]
        return texts.take([i for i, x in enumerate(column) if x.strip() or not x])


@planted("lone surrogates are not supported", "check_odd_texts")
class EncodesStrictly(TransformerClassifier):
    def _check_texts(self, X):
        texts = super()._check_texts(X)
        return Texts([[text.encode().decode() for text in texts.columns[0]]])


# Number, order and independence of the predictions.


@planted("the last row is dropped", "check_row_count")
class LosesTheLastRow(TransformerClassifier):
    def predict(self, X):
        return super().predict(X)[: max(1, len(X) - 1)]


@planted("predictions for a single text have no row dimension", "check_row_count")
class Squeezes(TransformerClassifier):
    def predict_proba(self, X):
        return np.squeeze(super().predict_proba(X))


@planted("predictions do not depend on X", "check_texts_matter")
class PredictsTheSame(TransformerClassifier):
    def _outputs(self, X):
        outputs = super()._outputs(X)
        return np.ones_like(outputs) * np.arange(outputs.shape[1])

    def _embeddings(self, X):
        return 0 * super()._embeddings(X)


@planted("predictions are sorted by length", "check_order_invariance")
class SortsResults(TransformerClassifier):
    def _outputs(self, X):
        lengths = [-len(x) for x in self._check_texts(X).columns[0]]
        return super()._outputs(X)[np.argsort(lengths, kind="stable")]


@planted("predictions depend on padding", "check_batch_size_invariance")
class LeaksPadding(TransformerClassifier):
    def _outputs(self, X):
        outputs = super()._outputs(X)
        longest = max(len(x) for x in self._check_texts(X).columns[0])
        outputs[:, 0] += 1e-4 * longest
        return outputs


@planted("outputs are normalized by the mean of the batch", "check_subset_invariance")
class NormalizesBatches(TransformerClassifier):
    def transform(self, X):
        found = super().transform(X)
        return found - found.mean(axis=0)


@planted("predictions are random", "check_repeated_texts")
class DrawsInPrediction(TransformerClassifier):
    def _outputs(self, X):
        outputs = super()._outputs(X)
        return outputs + np.random.default_rng().normal(0, 1e-3, outputs.shape)


@planted("transform returns the cached result of another X", "check_repeated_texts")
class CachesTransform(TransformerClassifier):
    def transform(self, X):
        kept = self.__dict__.setdefault("_kept", {})
        return kept.setdefault(len(X), super().transform(X))


# Targets and probabilities.


@planted("labels are converted to str", "check_label_dtypes")
class StringifiesLabels(TransformerClassifier):
    def fit(self, X, y, sample_weight=None):
        return super().fit(X, [str(label) for label in y], sample_weight)


@planted("labels have dtype object", "check_label_dtypes")
class LosesDtype(TransformerClassifier):
    def predict(self, X):
        return super().predict(X).astype(object)


@planted("integer labels have dtype int64", "check_label_dtypes")
class WidensLabels(TransformerClassifier):
    def predict(self, X):
        found = super().predict(X)
        return found.astype(np.int64) if found.dtype.kind in "biu" else found


@planted("classes_ is in order of appearance", "check_classes")
class KeepsOrderOfAppearance(TransformerClassifier):
    def fit(self, X, y, sample_weight=None):
        super().fit(X, y, sample_weight)
        self._seen = np.array(list(dict.fromkeys(np.asarray(y).tolist())))
        return self

    @property
    def classes_(self):
        return self.__dict__.get("_seen", super().classes_)


@planted(
    "the columns of predict_proba are not in the order of classes_",
    "check_probabilities",
)
class MisalignsProbabilities(TransformerClassifier):
    def predict_proba(self, X):
        return super().predict_proba(X)[:, ::-1]


@planted("probabilities do not sum to 1", "check_probabilities")
class DoesNotNormalize(TransformerClassifier):
    def predict_proba(self, X):
        found = super().predict_proba(X)
        return found / found.max(axis=1, keepdims=True)


@planted("binary decision_function has the wrong sign", "check_decision_function")
class FlipsTheSign(TransformerClassifier):
    def decision_function(self, X):
        found = super().decision_function(X)
        return -found if found.ndim == 1 else found


@planted("y is truncated to the length of X", "check_malformed_y")
class CutsTarget(TransformerClassifier):
    def fit(self, X, y, sample_weight=None):
        if isinstance(X, list) and isinstance(y, list):
            y = y[: len(X)]
        return super().fit(X, y, sample_weight)


@planted(
    "codes in order of appearance are used as indices of sorted labels",
    "check_target_containers",
)
class MixesCodes(TransformerClassifier):
    def fit(self, X, y, sample_weight=None):
        if isinstance(y, pd.Series) and not y.isna().any():
            codes, labels = pd.factorize(y)
            y = np.sort(labels)[codes]
        return super().fit(X, y, sample_weight)


@planted("missing labels are learned as a class", "check_malformed_y")
class LearnsMissingLabels(TransformerClassifier):
    def fit(self, X, y, sample_weight=None):
        if isinstance(y, list):
            y = ["nan" if pd.isna(label) else label for label in y]
        return super().fit(X, y, sample_weight)


@planted("score is 1 - accuracy", "check_score")
class ScoresErrors(TransformerClassifier):
    def score(self, X, y, sample_weight=None):
        return 1 - super().score(X, y, sample_weight)


# Sample weights.


@planted("sample weights are ignored", "check_zero_weights")
class IgnoresWeights(TransformerClassifier):
    def fit(self, X, y, sample_weight=None):
        return super().fit(X, y)


@planted("texts of weight 0 are trained on", "check_zero_weights")
class TrainsOnZeroWeights(TransformerClassifier):
    def fit(self, X, y, sample_weight=None):
        if sample_weight is not None:
            sample_weight = np.asarray(sample_weight)
            sample_weight = np.where(sample_weight == 0, 0.05, sample_weight)
        return super().fit(X, y, sample_weight)


@planted("negative weights are set to 0", "check_malformed_weights")
class ClipsWeights(TransformerClassifier):
    def fit(self, X, y, sample_weight=None):
        if sample_weight is not None:
            sample_weight = np.where(np.less(sample_weight, 0), 0, sample_weight)
        return super().fit(X, y, sample_weight)


@planted("routed sample weights are ignored", "check_weights_in_a_search")
class LosesRoutedWeights(TransformerClassifier):
    def set_fit_request(self, **requests):
        return self


# Parameters and state.


@planted("the constructor converts its arguments", "check_constructor")
class ChangesArguments(TransformerClassifier):
    def __init__(self, model="tiny", *, max_epochs=1, device="cpu", random_state=None):
        super().__init__(
            str(model), max_epochs=max_epochs, device=device, random_state=random_state
        )


@planted("the constructor validates its arguments", "check_constructor")
class ChecksArguments(TransformerClassifier):
    def __init__(self, model="tiny", *, max_epochs=1, device="cpu", random_state=None):
        if not max_epochs >= 0:
            raise ValueError("max_epochs must not be negative")
        super().__init__(
            model, max_epochs=max_epochs, device=device, random_state=random_state
        )


@planted("the constructor loads the model", "check_constructor")
class LoadsAtOnce(TransformerClassifier):
    def __init__(self, model="tiny", *, max_epochs=1, device="cpu", random_state=None):
        super().__init__(
            model, max_epochs=max_epochs, device=device, random_state=random_state
        )
        from transformers import AutoConfig

        self.config = AutoConfig.from_pretrained(model)


@planted("get_params omits a parameter", "check_nested_parameters")
class HidesParameter(TransformerClassifier):
    def get_params(self, deep=True):
        params = super().get_params(deep)
        params.pop("class_weight")
        return params


@planted("set_params accepts unknown parameters", "check_nested_parameters")
class AcceptsAnyParameter(TransformerClassifier):
    def set_params(self, **params):
        return super().set_params(
            **{name: value for name, value in params.items() if hasattr(self, name)}
        )


@planted("clones are fitted", "check_clone")
class ClonesWhatWasLearned(TransformerClassifier):
    def __sklearn_clone__(self):
        made = type(self)(**self.get_params())
        made.__dict__.update(vars(self))
        return made


@planted("predict works before fit", "check_unfitted")
class PredictsUnfitted(TransformerClassifier):
    def predict(self, X):
        if not hasattr(self, "model_"):
            return np.zeros(len(X))
        return super().predict(X)


@planted("fit returns None", "check_fit_returns_self")
class ReturnsNothing(TransformerClassifier):
    def fit(self, X, y, sample_weight=None):
        super().fit(X, y, sample_weight)


@planted("fit modifies X", "check_fit_changes_nothing")
class ChangesX(TransformerClassifier):
    def fit(self, X, y, sample_weight=None):
        super().fit(X, y, sample_weight)
        if isinstance(X, list):
            X[:] = [text.upper() if isinstance(text, str) else text for text in X]
        return self


@planted("fit shuffles y in place", "check_fit_changes_nothing")
class ShufflesTarget(TransformerClassifier):
    def fit(self, X, y, sample_weight=None):
        super().fit(X, y, sample_weight)
        if isinstance(y, list):
            y[:] = shuffle(y, random_state=0)
        return self


@planted("fit overwrites a parameter", "check_fit_changes_nothing")
class OverwritesParameters(TransformerClassifier):
    def fit(self, X, y, sample_weight=None):
        super().fit(X, y, sample_weight)
        self.max_length = self._length_limit
        return self


@planted("a second fit continues from the first", "check_refit")
class NeverForgets(TransformerClassifier):
    def fit(self, X, y, sample_weight=None):
        warm_start = hasattr(self, "model_") and len(np.unique(y)) == len(self.classes_)
        return self._fit(X, y, sample_weight, warm_start=warm_start)


@planted("a failed fit removes the fitted model", "check_failed_fit")
class DestroysEarlierFit(TransformerClassifier):
    def fit(self, X, y, sample_weight=None):
        self.__dict__.pop("model_", None)
        return super().fit(X, y, sample_weight)


@planted("a failed fit changes classes_", "check_failed_fit")
class SetsClassesTooEarly(TransformerClassifier):
    def fit(self, X, y, sample_weight=None):
        if hasattr(self, "model_"):
            self._task = self._make_task(np.array(["other", *"abcdef"]), None)
        return super().fit(X, y, sample_weight)


@planted("random_state is ignored", "check_repeatable")
class IgnoresRandomState(TransformerClassifier):
    def _make_rng(self):
        return np.random.default_rng()


@planted("fitted weights are stored on the class", "check_independent_fits")
class SharesWhatItLearned(TransformerClassifier):
    def fit(self, X, y, sample_weight=None):
        super().fit(X, y, sample_weight)
        type(self)._shared = self.model_
        return self

    def _outputs(self, X):
        self.model_ = self._shared
        return super()._outputs(X)


@planted("a global random state is seeded", "check_global_state")
class SeedsGlobally(TransformerClassifier):
    def fit(self, X, y, sample_weight=None):
        random.seed(0)
        return super().fit(X, y, sample_weight)


@planted("torch's global generator is used", "check_global_state")
class DrawsGlobally(TransformerClassifier):
    def _outputs(self, X):
        import torch

        torch.rand(1)
        return super()._outputs(X)


@planted("predict sets an attribute", "check_predict_changes_nothing")
class RemembersTexts(TransformerClassifier):
    def predict(self, X):
        self.n_predicted_ = len(X)
        return super().predict(X)


@planted("predict modifies X", "check_predict_changes_nothing")
class ChangesXInPredict(TransformerClassifier):
    def predict(self, X):
        found = super().predict(X)
        if isinstance(X, np.ndarray):
            X[:] = ""
        return found


@planted("fit prints", "check_silence")
class Prints(TransformerClassifier):
    def fit(self, X, y, sample_weight=None):
        sys.stdout.write("training ...")
        return super().fit(X, y, sample_weight)


@planted("a pickle lacks a fitted attribute", "check_pickle")
class PicklesTooLittle(TransformerClassifier):
    def __getstate__(self):
        return {k: v for k, v in super().__getstate__().items() if k != "_task"}


@planted("a pickle has weights in half precision", "check_pickle")
class PicklesRounded(TransformerClassifier):
    def __setstate__(self, state):
        super().__setstate__(state)
        if "model_" in state:
            self.model_ = self.model_.bfloat16().float()


@planted("get_feature_names_out has too few names", "check_feature_names")
class NamesTooFew(TransformerClassifier):
    def get_feature_names_out(self, input_features=None):
        return super().get_feature_names_out(input_features)[:-1]


@planted("set_output loses the index of X", "check_set_output")
class LosesIndex(TransformerClassifier):
    def transform(self, X):
        return super().transform(list(X) if isinstance(X, pd.Series) else X)


@planted("fit_transform and transform differ", "check_fit_transform")
class TransformsOtherwise(TransformerClassifier):
    def fit_transform(self, X, y=None):
        return 2 * self.fit(X, y).transform(X)


# Other estimators.


@planted("tagger: truncated words have no tags", "check_a_tag_for_each_word")
class CutsTags(TransformerTagger):
    def predict(self, X):
        return [tags[:60] for tags in super().predict(X)]


@planted("tagger: empty texts are dropped", "check_empty_strings")
class DropsTextsWithoutWords(TransformerTagger):
    def predict(self, X):
        return [tags for tags in super().predict(X) if tags]


@planted("tagger: an array of words is joined to one word", "check_token_lists")
class JoinsArrays(TransformerTagger):
    def _check_X(self, X):
        if isinstance(X, list) and isinstance(X[0], np.ndarray):
            X = [[" ".join(row)] * len(row) for row in X]
        return super()._check_X(X)


@planted("tagger: missing words are converted to str", "check_token_lists")
class StringifiesWords(TransformerTagger):
    def _check_X(self, X):
        if isinstance(X, list) and isinstance(X[0], list):
            X = [[str(w) if w is None else w for w in row] for row in X]
        return super()._check_X(X)


@planted("tagger: predict_proba is transposed", "check_probabilities_of_tags")
class ProbabilitiesTurned(TransformerTagger):
    def predict_proba(self, X):
        return [rows.T for rows in super().predict_proba(X)]


@planted("generator: predictions are sorted by length", "check_order_invariance")
class WritesSorted(TransformerGenerator):
    def predict(self, X):
        order = np.argsort([len(x) for x in self._check_texts(X).columns[0]])
        return super().predict(X)[order]


@planted("generator: sampling ignores random_state", "check_repeatable")
class WritesAtRandom(TransformerGenerator):
    def _make_rng(self):
        return np.random.default_rng()

    def _settings(self, n):
        self.do_sample = True
        settings = super()._settings(n)
        self.do_sample = False
        return settings


@planted("generator: repeated texts are dropped", "check_row_count")
class DropsRepeatedTexts(TransformerGenerator):
    def predict(self, X):
        return np.unique(super().predict(X)[1:])


@planted("regressor: predictions of one target are two-dimensional", "check_numbers")
class PredictsColumn(TransformerRegressor):
    def predict(self, X):
        return super().predict(X).reshape(-1, 1)


@planted("regressor: score uses standardized targets", "check_score")
class ScoresScaled(TransformerRegressor):
    def score(self, X, y, sample_weight=None):
        return super().score(X, np.array(y) / np.std(y), sample_weight)


# Bugs that only scikit-learn's checks detect.


@planted("n_features_in_ is not set", SCIKIT_LEARN + "check_n_features_in")
class ForgetsColumns(NumbersClassifier):
    def _attributes_of(self, texts):
        found = super()._attributes_of(texts)
        found.pop("n_features_in_", None)
        return found


@planted("parameters are not validated", SCIKIT_LEARN + "check_param_validation")
class ChecksNoParameters(NumbersClassifier):
    def _validate_params(self):
        pass


@planted(
    "a column vector y is accepted without a warning",
    SCIKIT_LEARN + "check_supervised_y_2d",
)
class FlattensTarget(NumbersClassifier):
    def _check_y(self, y):
        return super()._check_y(np.ravel(y))


if __name__ == "__main__":
    PAGE.write_text(render(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
