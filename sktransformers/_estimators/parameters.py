"""Constraints of the hyper-parameters that the estimators share."""

from numbers import Integral, Real
from os import PathLike
from typing import Any

import joblib

from .._compat import Interval, StrOptions

POSITIVE_REAL = Interval(Real, 0, None, closed="neither")
NON_NEGATIVE_REAL = Interval(Real, 0, None, closed="left")
POSITIVE_INT = Interval(Integral, 1, None, closed="left")

SHARED: dict[str, Any] = {
    "model": [str, PathLike],
    "revision": [str, None],
    "trust_remote_code": ["boolean"],
    "max_length": [POSITIVE_INT, None],
    "long_text": [StrOptions({"truncate", "window", "error"})],
    "max_epochs": [
        Interval(Integral, 0, None, closed="left"),
        StrOptions({"auto"}),
    ],
    "batch_size": [POSITIVE_INT],
    "gradient_accumulation_steps": [POSITIVE_INT],
    "learning_rate": [POSITIVE_REAL],
    "head_learning_rate": [POSITIVE_REAL],
    "weight_decay": [NON_NEGATIVE_REAL],
    "warmup_ratio": [Interval(Real, 0, 1, closed="both")],
    "lr_scheduler_type": [
        StrOptions({"linear", "cosine", "constant", "constant_with_warmup"})
    ],
    "max_grad_norm": [POSITIVE_REAL, None],
    "pooling": [StrOptions({"auto", "mean", "cls", "last", "head"})],
    "trainable": [StrOptions({"all", "head"}), POSITIVE_INT],
    "early_stopping": ["boolean"],
    "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
    "n_iter_no_change": [POSITIVE_INT],
    "warm_start": ["boolean"],
    "device": [str],
    "precision": [StrOptions({"auto", "float32", "bfloat16", "float16", "float64"})],
    "inference_precision": [
        StrOptions({"float32", "bfloat16", "float16"}),
        None,
    ],
    "lora_rank": [POSITIVE_INT, None],
    "lora_alpha": [POSITIVE_REAL, None],
    "lora_dropout": [Interval(Real, 0, 1, closed="left")],
    "lora_target_modules": [str, list, tuple, None],
    "gradient_checkpointing": ["boolean"],
    "compile": ["boolean"],
    "store_backbone": ["boolean", StrOptions({"auto"})],
    "checkpoint_dir": [str, PathLike, None],
    "memory": [str, PathLike, joblib.Memory, None],
    "random_state": ["random_state"],
    "verbose": ["verbose"],
}
