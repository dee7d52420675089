"""Ids in, weights or outputs out. Knows nothing of text, labels or scikit-learn."""
