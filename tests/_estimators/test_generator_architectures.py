"""Every architecture of transformers that generates text, in a TransformerGenerator.

The texts are those that transformers itself generates for each source alone; they do
not depend on the batch, and stay the same when the generator is pickled or saved.
"""

import contextlib

import pytest
from architectures import CannotBuildError, model_types
from generation_checks import check_architecture
from transformers import CONFIG_MAPPING
from transformers.models.auto import modeling_auto

from sktransformers.exceptions import ModelFormatError

# Positions, a state, rows that are mixed, an encoder, an encoder-decoder.
QUICK = {
    "CausalLM": ["gpt2", "mamba", "rwkv", "bert"],
    "Seq2SeqLM": ["bart"],
}
# Language models of speech, pictures or music, in a mapping for texts by mistake.
NOT_OF_TEXT = {
    *("audioflamingo3", "emu3", "glmasr", "granite_speech", "granite_speech_plus"),
    *("mllama", "musicflamingo", "nemo_speechlm", "qwen2_audio", "qwen3_asr"),
    *("voxtral", "voxtral_realtime"),
}
SELECTS = (
    "which tokens it attends to depends on the width of the batch where scores tie"
)
NOT_YET = {
    **dict.fromkeys(["axk2", "deepseek_v32", "glm_moe_dsa", "hy_v4"], SELECTS),
    "cpmant": "it reads the padding on the right in training and in perplexities",
    "reformer": "it trains on texts of one length only",
}


def marks_of(model_type, quick):
    """Return the marks of a test case."""
    marks = [] if model_type in quick else [pytest.mark.slow]
    if model_type in NOT_YET:
        marks.append(pytest.mark.xfail(reason=NOT_YET[model_type], strict=False))
    return marks


CASES = [
    pytest.param(
        task, model_type, marks=marks_of(model_type, quick), id=f"{task}-{model_type}"
    )
    for task, quick in QUICK.items()
    for model_type in model_types(task)
]


def is_refused(model_type):
    """Whether a model is an encoder, or one of other inputs than texts."""
    if model_type in NOT_OF_TEXT:
        return True
    config = CONFIG_MAPPING[model_type]
    if model_type == "reformer" or config().is_encoder_decoder:
        return False
    return model_type in modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES


@pytest.mark.parametrize(("task", "model_type"), CASES)
def test_an_architecture(task, model_type, tmp_path):
    outcome = contextlib.nullcontext()
    if is_refused(model_type):
        outcome = pytest.raises(ModelFormatError, match="does not generate text")
    try:
        with outcome:
            check_architecture(model_type, task, tmp_path)
    except CannotBuildError as error:
        pytest.skip(str(error))
