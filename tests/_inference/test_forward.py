"""Tests of forward passes over batches."""

import numpy as np
import pytest
import torch
from tiny_models import assert_close
from toy_model import Toy, make_data

from sktransformers._inference import forward as inference
from sktransformers.exceptions import DivergenceError

CPU = torch.device("cpu")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_results_come_back_in_input_order(dtype):
    rng = np.random.default_rng(0)
    values = torch.arange(50, dtype=dtype)
    batches = [
        (rows, {"x": values[rows]}) for rows in np.array_split(rng.permutation(50), 7)
    ]
    results = inference.run(
        lambda x: torch.stack([x, x + 1], dim=1),
        batches,
        50,
        device=CPU,
        precision="float32",
    )
    expected = np.arange(50)[:, None] + [0, 1]
    assert results.tolist() == expected.tolist()
    assert results.dtype == (np.float64 if dtype == torch.float64 else np.float32)


def test_a_forward_pass_keeps_no_gradients_and_lets_go_of_inputs():
    model = Toy().eval()
    x, *_ = make_data()
    seen = []

    def forward(x):
        outputs = model(x)
        seen.append(outputs.requires_grad)
        return outputs

    def draw():  # batches are made one at a time
        for rows in np.array_split(np.arange(12), 3):
            assert len(seen) == rows[0] // 4
            yield rows, {"x": x[rows]}

    results = inference.run(forward, draw(), 12, device=CPU, precision="float32")
    assert seen == [False] * 3
    with torch.no_grad():
        assert_close(results, model(x).numpy())  # of other batches
    assert results.flags.writeable


def test_predictions_in_lower_precision_are_float32():
    model = Toy().eval()
    x, *_ = make_data()
    options = {"device": CPU, "precision": "bfloat16"}
    results = inference.run(model, [(np.arange(12), {"x": x})], 12, **options)
    assert results.dtype == np.float32
    exact = model(x).detach().numpy()
    assert not np.array_equal(results, exact)
    np.testing.assert_allclose(results, exact, atol=0.05)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_outputs_that_are_not_finite_are_no_predictions(value):
    outputs = torch.tensor([[0.0, 1.0], [value, 1.0]])  # argmax would give a label
    batches = [(np.array([row]), {"x": outputs[[row]]}) for row in range(2)]
    with pytest.raises(DivergenceError, match=r"infinite or NaN.*inference_precision"):
        inference.run(lambda x: x, batches, 2, device=CPU, precision="float32")
