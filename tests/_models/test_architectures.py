"""Every architecture of transformers' mappings, as classifier, regressor and tagger."""

import subprocess
from collections import Counter

import pytest
from architecture_checks import VARIANTS, check_architecture
from architecture_matrix import run_matrix
from architectures import model_types

from sktransformers.exceptions import ModelFormatError

# Odd ones: a head that reads the last column, no attention mask, characters without
# embeddings, sparse attention, narrower vectors, convolutions, pooled positions, a
# decoder, a window, a composite configuration.
ODD = ["xlnet", "fnet", "canine", "big_bird", "opt", "convbert", "funnel", "t5"]
ODD += ["longformer", "modernvbert"]
TASKS = list(VARIANTS)
# What no tiny model can be built of: needs a library that is not on PyPI.
NOT_BUILT = {"layoutlmv2"}
# Refused in every variant: one needs the place of each word on its page; the head of
# the other has no output layer to put in the order of the classes.
REFUSED = {"bros", "perceiver"}


@pytest.mark.parametrize(
    "variant", ["trained", pytest.param("head", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("model_type", ODD)
def test_odd_classifiers(model_type, variant, tmp_path):
    check_architecture(model_type, "SequenceClassification", variant, tmp_path)


@pytest.mark.parametrize(
    "variant", ["frozen", pytest.param("lora", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("model_type", ["canine", "xlnet", "fnet", "big_bird"])
def test_odd_taggers(model_type, variant, tmp_path):
    check_architecture(model_type, "TokenClassification", variant, tmp_path)


@pytest.mark.parametrize("variant", ["trained", "head", "new"])
def test_a_model_that_needs_more_than_texts_is_refused(variant, tmp_path):
    with pytest.raises(ModelFormatError, match="cannot be given texts alone"):
        check_architecture("bros", "TokenClassification", variant, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_all(task, record_property):
    outcomes = run_matrix(task)
    wrong = [line for line in outcomes if line[2].startswith(("fails", "crashes"))]
    assert wrong == []
    works = {name for name, _, outcome in outcomes if outcome == "works"}
    assert set(model_types(task)) - works <= NOT_BUILT | REFUSED
    counts = Counter(outcome.partition(":")[0] for _, _, outcome in outcomes)
    record_property("outcomes", dict(counts))
    assert counts["works"] >= 0.97 * counts.total()


def test_a_crash_names_the_architecture(monkeypatch):
    outputs = [
        (-11, '["bert"]\n["bert", "head", "works"]\n["fnet"]\n'),
        (0, '["gpt2"]\n["gpt2", "head", "works"]\n'),
    ]
    types = []

    def run(command, **_options):
        types.append(command[5:])
        code, text = outputs.pop(0)
        return subprocess.CompletedProcess(command, code, text, "Segmentation fault")

    monkeypatch.setattr(subprocess, "run", run)
    assert run_matrix("SequenceClassification", "bert", "fnet", "gpt2") == [
        ["bert", "head", "works"],
        ["fnet", "", "crashes: -11 ['Segmentation fault']"],
        ["gpt2", "head", "works"],
    ]
    assert types == [["bert", "fnet", "gpt2"], ["gpt2"]]
