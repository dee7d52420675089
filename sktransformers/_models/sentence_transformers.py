"""Settings of checkpoints that sentence-transformers saved."""

import json
from pathlib import Path
from typing import Any


def trained_pooling(folder: Path) -> str | None:
    """Return the pooling of a sentence-transformers model, or None."""
    modules = folder / "modules.json"
    for module in json.loads(modules.read_text("utf-8")) if modules.is_file() else ():
        if str(module.get("type", "")).endswith("Pooling"):
            settings = folder / module["path"] / "config.json"
            return _pooling_of(json.loads(settings.read_text("utf-8")))
    return None


def lower_cases(folder: Path) -> bool:
    """Return whether sentence-transformers lower-cases the texts of a model."""
    file = folder / "sentence_bert_config.json"
    settings = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    return bool(settings.get("do_lower_case"))


def _pooling_of(settings: dict[str, Any]) -> str | None:
    names = {
        "mean": "pooling_mode_mean_tokens",
        "cls": "pooling_mode_cls_token",
        "last": "pooling_mode_lasttoken",
    }
    chosen = [name for name, key in names.items() if settings.get(key)]
    mode = settings.get("pooling_mode")
    if not chosen and isinstance(mode, str):
        chosen = [{"lasttoken": "last"}.get(mode, mode)]
    return chosen[0] if len(chosen) == 1 and chosen[0] in names else None
