"""Base class of the estimators whose ``transform`` computes text embeddings."""

from typing import Any

import numpy as np
from sklearn.base import TransformerMixin
from sklearn.utils.validation import check_is_fitted

from .._compat import generate_get_feature_names_out
from .._inference.memory import memory_folder
from .._tasks.base import average_windows
from .base import BaseTextEstimator


class EmbeddingEstimator(TransformerMixin, BaseTextEstimator):
    """Base class of the estimators whose ``transform`` returns text embeddings."""

    def transform(self, X: Any) -> np.ndarray:
        """Compute the embeddings of texts with the fine-tuned model.

        Parameters
        ----------
        X : array-like of str of shape (n_texts,), pairs or DataFrame
            Same as for ``fit``.

        Returns
        -------
        ndarray of shape (n_texts, hidden_size)
            Pooled hidden states, which are the input of the head. If the head is that
            of the model's architecture, the mean of the last hidden states or, for a
            decoder, the last one.
        """
        from .._inference.predict import embed, prepare_prediction, source_of

        encoding = self._encode_fitted(X)
        model, encoding, device, precision = prepare_prediction(self, encoding)
        vectors = embed(
            model,
            encoding,
            device,
            precision,
            source=source_of(model),
            memory=memory_folder(self),
        )
        if len(encoding) == encoding.n_texts:
            return vectors
        return average_windows(vectors, encoding.sample_index).astype(vectors.dtype)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Get output feature names for transformation.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Names of the text columns. Only used to validate them against the names seen
            during ``fit``.

        Returns
        -------
        ndarray of shape (hidden_size,)
            Feature names, such as "transformerclassifier0", "transformerclassifier1".
        """
        check_is_fitted(self)
        width = self.model_.width
        return generate_get_feature_names_out(self, width, input_features)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []  # X has no dtype to preserve
        return tags
