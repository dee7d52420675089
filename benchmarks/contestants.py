"""The configurations that the speed benchmark compares, by task."""

from typing import Any

from .running import Contestant

OURS = "with_sktransformers.py"
TRAINER = "with_trainer.py"
PIPELINE = "with_pipeline.py"

FAST_TRAINER = {
    "bf16": True,
    "train_sampling_strategy": "group_by_length",
    "optim": "adamw_torch_fused",
}


def ours(name: str, *, is_short: bool = False, **options: Any) -> Contestant:
    """Return a configuration of sktransformers with the given options."""
    name = f"sktransformers, {name}" if name else "sktransformers"
    return Contestant(name, OURS, options, is_peer=False, is_short=is_short)


INFERENCE_MODES = (
    ours("", is_short=True),
    ours("bfloat16", inference_precision="bfloat16", is_short=True),
    ours("OpenVINO", backend="openvino", is_short=True),
    ours(
        "OpenVINO bfloat16",
        backend="openvino",
        inference_precision="bfloat16",
        is_short=True,
    ),
)
TRAINER_DEFAULTS = Contestant("Trainer, defaults", TRAINER, is_short=True)
PIPELINE_DEFAULTS = Contestant("pipeline()", PIPELINE, is_short=True)
SENTENCE_TRANSFORMERS = Contestant(
    "sentence-transformers", "with_sentence_transformers.py", is_short=True
)

FIT = (
    ours("", is_short=True),
    ours("float32", precision="float32", is_short=True),
    TRAINER_DEFAULTS,
    Contestant("Trainer, bf16", TRAINER, {"bf16": True}),
    Contestant(
        "Trainer, bf16 and group_by_length", TRAINER, FAST_TRAINER, is_short=True
    ),
    Contestant("Trainer, padded to max_length", TRAINER, {"padding": "max_length"}),
    Contestant("skorch's recipe", "with_skorch.py"),
    Contestant("simpletransformers", "with_simpletransformers.py"),
)
PREDICT = (
    *INFERENCE_MODES,
    PIPELINE_DEFAULTS,
    Contestant("pipeline(batch_size=32)", PIPELINE, {"batch_size": 32}),
    Contestant("Trainer.predict", TRAINER),
)
ONE = (*INFERENCE_MODES, PIPELINE_DEFAULTS)
EMBED = (*INFERENCE_MODES[:2], SENTENCE_TRANSFORMERS)
RACE = (
    TRAINER_DEFAULTS,
    ours("0 epochs", max_epochs=0),
    ours("1 epoch", max_epochs=1),
    ours("2 epochs", max_epochs=2),
    ours("3 epochs", max_epochs=3),
)
ROOFLINE = tuple(
    Contestant(
        f"matrix product, {precision}",
        "with_matmul.py",
        {"precision": precision},
        is_peer=False,
        is_short=True,
    )
    for precision in ("float32", "bfloat16")
)

WORKS = {
    "fit": FIT,
    "predict": PREDICT,
    "one": ONE,
    "embed": EMBED,
    "race": RACE,
    "roofline": ROOFLINE,
}
# The baseline of each task, besides sktransformers with default parameters.
BASELINES = {
    "fit": TRAINER_DEFAULTS.name,
    "predict": PIPELINE_DEFAULTS.name,
    "one": PIPELINE_DEFAULTS.name,
    "embed": SENTENCE_TRANSFORMERS.name,
    "race": TRAINER_DEFAULTS.name,
}
