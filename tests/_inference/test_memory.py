"""Prediction, part after part, takes the memory of one part and no needless time."""

import gc
import json
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
import torch
from tiny_models import make_sentences, save_tiny_model

PARTS = [make_sentences(n, seed=n)[0] for n in (200, 35, 450, 1, 165, 320)]


def count_tensors():
    gc.collect()
    return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())


@pytest.mark.slow
def test_predicting_part_after_part_keeps_nothing(fitted_classifier):
    def predict_all():
        for part in PARTS:
            fitted_classifier.predict(part)
            fitted_classifier.predict_proba(part)
            fitted_classifier.transform(part)

    predict_all()
    n_tensors = count_tensors()
    tracemalloc.start()
    try:
        predict_all()
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(5):
            predict_all()
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 100_000  # the ids of the five rounds take 700,000
    assert count_tensors() == n_tensors


def test_a_prediction_neither_moves_the_model_nor_studies_the_tokenizer(
    fitted_classifier, monkeypatch
):
    fitted_classifier.predict(["a film"])

    def refuse(*args, **kwargs):
        pytest.fail("takes the time of a small model's forward pass")

    monkeypatch.setattr(type(fitted_classifier.model_), "to", refuse)
    monkeypatch.setattr(type(fitted_classifier.tokenizer_), "__call__", refuse)
    fitted_classifier.predict(["a film"])


STREAM = """
import os, sys
from pathlib import Path
import numpy as np
from sktransformers import TransformerClassifier

def resident():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")

rng = np.random.default_rng(0)
def draw():
    lengths = rng.integers(1, 200, size=200)
    return [" ".join(rng.choice(["film", "good", "bad"], size=n)) for n in lengths]

clf = TransformerClassifier(sys.argv[1], max_epochs=0, device="cpu", random_state=0)
clf.fit(draw(), [0, 1] * 100)
sizes = []
for _ in range(15):
    clf.predict_proba(draw())
    sizes.append(resident())
print(*(size // 1_000_000 for size in sizes))
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_batches_of_many_shapes_leave_no_memory_behind(tmp_path):
    # As wide as a small real model: its buffers are what makes the heap grow.
    model = save_tiny_model(
        tmp_path,
        hidden_size=384,
        intermediate_size=1536,
        num_hidden_layers=6,
        num_attention_heads=12,
        max_position_embeddings=256,
    )
    settings = tmp_path / "tokenizer_config.json"
    longer = json.loads(settings.read_text()) | {"model_max_length": 256}
    settings.write_text(json.dumps(longer))
    command = [sys.executable, "-c", STREAM, str(model)]
    path = str(Path(__file__).parents[2])
    ran = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
    )
    sizes = [int(size) for size in ran.stdout.split()]
    assert max(sizes[10:]) < 1.05 * max(sizes[:2])
