"""
Fine-tune a transformer on real text
====================================

The texts are docstrings of the installed scientific packages; the label is the package
that a docstring comes from. Package names are masked in the texts. A small pre-trained
encoder is fine-tuned and compared with a classical baseline, logistic regression on
TF-IDF features.
"""

# %%
# Load the dataset
# ----------------

import sys
import time
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline

from sktransformers import TransformerClassifier
from sktransformers.datasets import load_docstrings
from sktransformers.inspection import LossCurveDisplay

texts, labels = load_docstrings(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    texts, labels, test_size=0.25, stratify=labels, random_state=0
)
print(f"{len(X_train)} training texts, {len(X_test)} test texts, such as:")
for text, label in zip(X_train[:3], y_train[:3], strict=True):
    print(f"  {label:>12}: {text[:70]}")

# %%
# Baseline
# --------

baseline = make_pipeline(TfidfVectorizer(), LogisticRegression())
baseline.fit(X_train, y_train)
print(f"\nTF-IDF + logistic regression: accuracy {baseline.score(X_test, y_test):.3f}")

# %%
# Fine-tuning
# -----------
#
# The classifier is fitted and scored like any scikit-learn classifier. ``verbose=1``
# shows a progress bar.

started = time.perf_counter()
classifier = TransformerClassifier(random_state=0, verbose=1).fit(X_train, y_train)
seconds = time.perf_counter() - started
print(
    f"TransformerClassifier:        accuracy {classifier.score(X_test, y_test):.3f}"
    f"  (fine-tuned in {seconds:.0f} s, {classifier.n_epochs_} epochs)"
)

# %%
# Loss curve
# ----------

display = LossCurveDisplay.from_estimator(classifier)
display.ax_.set_title("Fine-tuning on docstrings")
if len(sys.argv) > 1:
    picture = Path(sys.argv[1]) / "loss_curve.png"
    display.figure_.savefig(picture, dpi=150, bbox_inches="tight")
    print(f"The loss curve is in {picture}")

# %%
# Prediction for new texts
# ------------------------

sentences = [
    "Return the eigenvalues of a symmetric matrix.",
    "Fill missing values with the previous row's.",
    "Apply dropout to the input during training.",
    "Fit the model with cross-validation and return the best score.",
    "Tokenize a sentence and add the special tokens.",
]
probabilities = classifier.predict_proba(sentences)
for sentence, row in zip(sentences, probabilities, strict=True):
    best = row.argmax()
    print(f"  {classifier.classes_[best]:>12} ({row[best]:.2f}): {sentence}")
