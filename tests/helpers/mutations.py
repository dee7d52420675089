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
from text_checks.estimator_checks import text_checks

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
    page = _replace(page, "checks", ("check", "what it asks"), checks)
    return _replace(page, "bugs", ("bug", "caught by"), bugs)


def _replace(page, name, heads, rows):
    lines = [heads, ("---", "---"), *rows]
    table = "\n".join(f"| {one} | {other} |" for one, other in lines)
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    pattern = f"{re.escape(begin)}.*{re.escape(end)}"
    return re.sub(pattern, lambda _: f"{begin}\n{table}\n{end}", page, flags=re.DOTALL)


# What X may be.


@planted("a bare string is read letter by letter", "check_bare_string")
class ReadsLetters(TransformerClassifier):
    def _check_X(self, X):
        return super()._check_X(list(X) if isinstance(X, str) else X)


@planted("None and NaN become the texts 'None' and 'nan'", "check_missing_texts")
class StringifiesMissing(TransformerClassifier):
    def _check_X(self, X):
        if isinstance(X, (list, pd.Series)):
            X = [str(x) if pd.api.types.is_scalar(x) else x for x in X]
        return super()._check_X(X)


@planted("None becomes the empty string", "check_missing_texts")
class FillsMissing(TransformerClassifier):
    def _check_X(self, X):
        if isinstance(X, list):
            X = ["" if x is None else x for x in X]
        return super()._check_X(X)


@planted("rows without a text are dropped in prediction", "check_missing_texts")
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


@planted("numbers become texts", "check_other_objects")
class StringifiesNumbers(TransformerClassifier):
    def _check_X(self, X):
        if isinstance(X, list):
            X = [str(x) if isinstance(x, int) else x for x in X]
        return super()._check_X(X)


@planted("an error does not name the row", "check_errors_name_the_row")
class HidesTheRow(TransformerClassifier):
    def _check_X(self, X):
        try:
            return super()._check_X(X)
        except TextValueError:
            raise TextValueError("X must hold nothing but str.") from None


@planted("a dict is read by its keys, a set in any order", "check_other_containers")
class ReadsUnordered(TransformerClassifier):
    def _check_X(self, X):
        return super()._check_X(sorted(X) if isinstance(X, (dict, set)) else X)


@planted("an iterator is used up by the first method", "check_other_containers")
class ReadsIterators(TransformerClassifier):
    def _check_X(self, X):
        return super()._check_X(list(X) if hasattr(X, "__next__") else X)


@planted("X without rows gives no rows rather than an error", "check_no_texts")
class PredictsNothing(TransformerClassifier):
    def predict(self, X):
        if hasattr(X, "__len__") and not len(X):
            return self.classes_[:0]
        return super().predict(X)


@planted("a tuple of texts is taken for a pair", "check_containers")
class TakesTuplesForPairs(TransformerClassifier):
    def _check_X(self, X):
        return super()._check_X([X[:2]] * len(X) if isinstance(X, tuple) else X)


@planted("a categorical Series is read by its codes", "check_containers")
class ReadsCodes(TransformerClassifier):
    def _check_X(self, X):
        if isinstance(getattr(X, "dtype", None), pd.CategoricalDtype):
            X = [str(code) for code in X.cat.codes]
        return super()._check_X(X)


@planted("a frame is read as the list of its column names", "check_one_column_frames")
class ReadsColumnNames(TransformerClassifier):
    def _check_X(self, X):
        if isinstance(X, pd.DataFrame):
            X = (list(X.columns) * len(X))[: len(X)]
        return super()._check_X(X)


@planted("further columns are left out silently", "check_number_of_columns")
class LeavesColumnsOut(TransformerClassifier):
    def _check_texts(self, X):
        if isinstance(X, pd.DataFrame) and not hasattr(self, "feature_names_in_"):
            X = X.iloc[:, 0]
        return super()._check_texts(X)


@planted("columns of other names are accepted", "check_column_names")
class IgnoresColumnNames(TransformerClassifier):
    def _check_texts(self, X):
        return self._check_X(X)


@planted("a Series is read by its labels", "check_series_by_position")
class ReadsSeriesByLabel(TransformerClassifier):
    def _check_X(self, X):
        if isinstance(X, pd.Series) and X.index.is_unique:
            X = [X.loc[label] for label in sorted(X.index)]
        return super()._check_X(X)


@planted("y is aligned with X by its index", "check_series_by_position")
class AlignsTarget(TransformerClassifier):
    def fit(self, X, y, sample_weight=None):
        if isinstance(X, pd.Series) and isinstance(y, pd.Series):
            y = y.reindex(X.index)
        return super().fit(X, y, sample_weight)


@planted("a fold is read by its labels", "check_cross_validation_of_series")
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


@planted("texts that are nothing but blanks are dropped", "check_odd_texts")
class DropsBlanks(TransformerClassifier):
    def _check_texts(self, X):
        texts = super()._check_texts(X)
        column = texts.columns[0]
        return texts.take([i for i, x in enumerate(column) if x.strip() or not x])


@planted("a lone surrogate cannot be encoded", "check_odd_texts")
class EncodesStrictly(TransformerClassifier):
    def _check_texts(self, X):
        texts = super()._check_texts(X)
        return Texts([[text.encode().decode() for text in texts.columns[0]]])


# Rows: their number, order and company.


@planted("the last row is lost", "check_row_count")
class LosesTheLastRow(TransformerClassifier):
    def predict(self, X):
        return super().predict(X)[: max(1, len(X) - 1)]


@planted("one text gives no array of rows but a row", "check_row_count")
class Squeezes(TransformerClassifier):
    def predict_proba(self, X):
        return np.squeeze(super().predict_proba(X))


@planted("X is not looked at", "check_texts_matter")
class PredictsTheSame(TransformerClassifier):
    def _outputs(self, X):
        outputs = super()._outputs(X)
        return np.ones_like(outputs) * np.arange(outputs.shape[1])

    def _embeddings(self, X):
        return 0 * super()._embeddings(X)


@planted("results come sorted by length", "check_order_invariance")
class SortsResults(TransformerClassifier):
    def _outputs(self, X):
        lengths = [-len(x) for x in self._check_texts(X).columns[0]]
        return super()._outputs(X)[np.argsort(lengths, kind="stable")]


@planted("padding leaks into the results", "check_batch_size_invariance")
class LeaksPadding(TransformerClassifier):
    def _outputs(self, X):
        outputs = super()._outputs(X)
        longest = max(len(x) for x in self._check_texts(X).columns[0])
        outputs[:, 0] += 1e-4 * longest
        return outputs


@planted("a batch is normalized by its own mean", "check_subset_invariance")
class NormalizesBatches(TransformerClassifier):
    def transform(self, X):
        found = super().transform(X)
        return found - found.mean(axis=0)


@planted("one random draw in prediction", "check_repeated_texts")
class DrawsInPrediction(TransformerClassifier):
    def _outputs(self, X):
        outputs = super()._outputs(X)
        return outputs + np.random.default_rng().normal(0, 1e-3, outputs.shape)


@planted("transform keeps the result of another X", "check_repeated_texts")
class CachesTransform(TransformerClassifier):
    def transform(self, X):
        kept = self.__dict__.setdefault("_kept", {})
        return kept.setdefault(len(X), super().transform(X))


# y, labels and probabilities.


@planted("labels come back as str", "check_label_dtypes")
class StringifiesLabels(TransformerClassifier):
    def fit(self, X, y, sample_weight=None):
        return super().fit(X, [str(label) for label in y], sample_weight)


@planted("labels come back as objects", "check_label_dtypes")
class LosesDtype(TransformerClassifier):
    def predict(self, X):
        return super().predict(X).astype(object)


@planted("labels come back as int64", "check_label_dtypes")
class WidensLabels(TransformerClassifier):
    def predict(self, X):
        found = super().predict(X)
        return found.astype(np.int64) if found.dtype.kind in "biu" else found


@planted("classes_ is in the order of y", "check_classes")
class KeepsOrderOfAppearance(TransformerClassifier):
    def fit(self, X, y, sample_weight=None):
        super().fit(X, y, sample_weight)
        self._seen = np.array(list(dict.fromkeys(np.asarray(y).tolist())))
        return self

    @property
    def classes_(self):
        return self.__dict__.get("_seen", super().classes_)


@planted("columns of predict_proba are not those of classes_", "check_probabilities")
class MisalignsProbabilities(TransformerClassifier):
    def predict_proba(self, X):
        return super().predict_proba(X)[:, ::-1]


@planted("probabilities do not sum to 1", "check_probabilities")
class DoesNotNormalize(TransformerClassifier):
    def predict_proba(self, X):
        found = super().predict_proba(X)
        return found / found.max(axis=1, keepdims=True)


@planted("the sign of two classes is wrong", "check_decision_function")
class FlipsTheSign(TransformerClassifier):
    def decision_function(self, X):
        found = super().decision_function(X)
        return -found if found.ndim == 1 else found


@planted("a y that is too long is cut", "check_malformed_y")
class CutsTarget(TransformerClassifier):
    def fit(self, X, y, sample_weight=None):
        if isinstance(X, list) and isinstance(y, list):
            y = y[: len(X)]
        return super().fit(X, y, sample_weight)


@planted("codes in order of appearance name sorted labels", "check_target_containers")
class MixesCodes(TransformerClassifier):
    def fit(self, X, y, sample_weight=None):
        if isinstance(y, pd.Series) and not y.isna().any():
            codes, labels = pd.factorize(y)
            y = np.sort(labels)[codes]
        return super().fit(X, y, sample_weight)


@planted("missing labels become a class", "check_malformed_y")
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


@planted("negative weights count as 0", "check_malformed_weights")
class ClipsWeights(TransformerClassifier):
    def fit(self, X, y, sample_weight=None):
        if sample_weight is not None:
            sample_weight = np.where(np.less(sample_weight, 0), 0, sample_weight)
        return super().fit(X, y, sample_weight)


@planted("routed sample weights are lost", "check_weights_in_a_search")
class LosesRoutedWeights(TransformerClassifier):
    def set_fit_request(self, **requests):
        return self


# Parameters and state.


@planted("the constructor changes its arguments", "check_constructor")
class ChangesArguments(TransformerClassifier):
    def __init__(self, model="tiny", *, max_epochs=1, device="cpu", random_state=None):
        super().__init__(
            str(model), max_epochs=max_epochs, device=device, random_state=random_state
        )


@planted("the constructor checks its arguments", "check_constructor")
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


@planted("a parameter cannot be read back", "check_nested_parameters")
class HidesParameter(TransformerClassifier):
    def get_params(self, deep=True):
        params = super().get_params(deep)
        params.pop("class_weight")
        return params


@planted("unknown parameters are accepted", "check_nested_parameters")
class AcceptsAnyParameter(TransformerClassifier):
    def set_params(self, **params):
        return super().set_params(
            **{name: value for name, value in params.items() if hasattr(self, name)}
        )


@planted("a clone is fitted already", "check_clone")
class ClonesWhatWasLearned(TransformerClassifier):
    def __sklearn_clone__(self):
        made = type(self)(**self.get_params())
        made.__dict__.update(vars(self))
        return made


@planted("before fit the model answers at random", "check_unfitted")
class PredictsUnfitted(TransformerClassifier):
    def predict(self, X):
        if not hasattr(self, "model_"):
            return np.zeros(len(X))
        return super().predict(X)


@planted("fit returns None", "check_fit_returns_self")
class ReturnsNothing(TransformerClassifier):
    def fit(self, X, y, sample_weight=None):
        super().fit(X, y, sample_weight)


@planted("fit changes X", "check_fit_changes_nothing")
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


@planted("fit stores what 'auto' became in the parameter", "check_fit_changes_nothing")
class OverwritesParameters(TransformerClassifier):
    def fit(self, X, y, sample_weight=None):
        super().fit(X, y, sample_weight)
        self.max_length = self._length_limit
        return self


@planted("a second fit goes on from the first", "check_refit")
class NeverForgets(TransformerClassifier):
    def fit(self, X, y, sample_weight=None):
        warm_start = hasattr(self, "model_") and len(np.unique(y)) == len(self.classes_)
        target = self._task if warm_start else None
        return self._fit(X, y, sample_weight, task=target, warm_start=warm_start)


@planted("a failed fit destroys the model", "check_failed_fit")
class DestroysEarlierFit(TransformerClassifier):
    def fit(self, X, y, sample_weight=None):
        self.__dict__.pop("model_", None)
        return super().fit(X, y, sample_weight)


@planted("a failed fit changes the classes", "check_failed_fit")
class SetsClassesTooEarly(TransformerClassifier):
    def fit(self, X, y, sample_weight=None):
        if hasattr(self, "model_"):
            self._task = self._make_task(np.array(["other", *"abcdef"]))
        return super().fit(X, y, sample_weight)


@planted("random_state is ignored", "check_repeatable")
class IgnoresRandomState(TransformerClassifier):
    def _make_rng(self):
        return np.random.default_rng()


@planted("what is learned is kept on the class", "check_independent_fits")
class SharesWhatItLearned(TransformerClassifier):
    def fit(self, X, y, sample_weight=None):
        super().fit(X, y, sample_weight)
        type(self)._shared = self.model_
        return self

    def _outputs(self, X):
        self.model_ = self._shared
        return super()._outputs(X)


@planted("a global random state is set", "check_global_state")
class SeedsGlobally(TransformerClassifier):
    def fit(self, X, y, sample_weight=None):
        random.seed(0)
        return super().fit(X, y, sample_weight)


@planted("torch draws from its global random state", "check_global_state")
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


@planted("predict changes X", "check_predict_changes_nothing")
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


@planted("a name too few for the columns of transform", "check_feature_names")
class NamesTooFew(TransformerClassifier):
    def get_feature_names_out(self, input_features=None):
        return super().get_feature_names_out(input_features)[:-1]


@planted("a frame loses the index of X", "check_set_output")
class LosesIndex(TransformerClassifier):
    def transform(self, X):
        return super().transform(list(X) if isinstance(X, pd.Series) else X)


@planted("fit_transform gives other vectors than transform", "check_fit_transform")
class TransformsOtherwise(TransformerClassifier):
    def fit_transform(self, X, y=None):
        return 2 * self.fit(X, y).transform(X)


# Other estimators.


@planted("tagger: words that were cut have no tags", "check_a_tag_for_each_word")
class CutsTags(TransformerTagger):
    def predict(self, X):
        return [tags[:60] for tags in super().predict(X)]


@planted("tagger: texts without words are dropped", "check_empty_strings")
class DropsTextsWithoutWords(TransformerTagger):
    def predict(self, X):
        return [tags for tags in super().predict(X) if tags]


@planted("tagger: words in an array become one word", "check_token_lists")
class JoinsArrays(TransformerTagger):
    def _check_X(self, X):
        if isinstance(X, list) and isinstance(X[0], np.ndarray):
            X = [[" ".join(row)] * len(row) for row in X]
        return super()._check_X(X)


@planted("tagger: words that are None become 'None'", "check_token_lists")
class StringifiesWords(TransformerTagger):
    def _check_X(self, X):
        if isinstance(X, list) and isinstance(X[0], list):
            X = [[str(w) if w is None else w for w in row] for row in X]
        return super()._check_X(X)


@planted("tagger: probabilities are of tags, not words", "check_probabilities_of_tags")
class ProbabilitiesTurned(TransformerTagger):
    def predict_proba(self, X):
        return [rows.T for rows in super().predict_proba(X)]


@planted("generator: texts come sorted by length", "check_order_invariance")
class WritesSorted(TransformerGenerator):
    def predict(self, X):
        order = np.argsort([len(x) for x in self._check_texts(X).columns[0]])
        return super().predict(X)[order]


@planted("generator: each call draws anew", "check_repeatable")
class WritesAtRandom(TransformerGenerator):
    def _make_rng(self):
        return np.random.default_rng()

    def _settings(self, n):
        self.do_sample = True
        settings = super()._settings(n)
        self.do_sample = False
        return settings


@planted("generator: what could not be written is dropped", "check_row_count")
class DropsRepeatedTexts(TransformerGenerator):
    def predict(self, X):
        return np.unique(super().predict(X)[1:])


@planted("regressor: one target comes in a column", "check_numbers")
class PredictsColumn(TransformerRegressor):
    def predict(self, X):
        return super().predict(X).reshape(-1, 1)


@planted("regressor: predictions stay on the scale of the training", "check_score")
class ScoresScaled(TransformerRegressor):
    def score(self, X, y, sample_weight=None):
        return super().score(X, np.array(y) / np.std(y), sample_weight)


# What only scikit-learn's own battery notices.


@planted("n_features_in_ is not set", SCIKIT_LEARN + "check_n_features_in")
class ForgetsColumns(NumbersClassifier):
    def _attributes_of(self, texts):
        found = super()._attributes_of(texts)
        found.pop("n_features_in_", None)
        return found


@planted("parameters are not checked", SCIKIT_LEARN + "check_param_validation")
class ChecksNoParameters(NumbersClassifier):
    def _validate_params(self):
        pass


@planted(
    "one column of labels is accepted silently", SCIKIT_LEARN + "check_supervised_y_2d"
)
class FlattensTarget(NumbersClassifier):
    def _check_y(self, y):
        return super()._check_y(np.ravel(y))


if __name__ == "__main__":
    PAGE.write_text(render(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
