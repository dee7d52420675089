"""What the contestants share: a task comes in, a result goes out, the clock."""

import importlib
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any


def main(**works: Callable[[dict], dict]) -> None:
    """Do the work that the task on standard input asks for; print the result.

    A peer that is not installed is a result too, not a failure.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # everything comes from folders
    task = json.load(sys.stdin)
    sys.stdout, results = sys.stderr, sys.stdout  # libraries print as they work
    try:
        result = works[task.get("work", "fit")](task)
        result |= surroundings()
    except ImportError as error:
        result = {"skipped": str(error)}
    json.dump(result, results)


def import_backbone(folder: str) -> None:
    """Import what loading the model and the first step would import: none is timed."""
    kind = json.loads((Path(folder) / "config.json").read_text())["model_type"]
    for name in ("torch._dynamo", f"transformers.models.{kind}.modeling_{kind}"):
        importlib.import_module(name)
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    _ = AutoModelForSequenceClassification, AutoTokenizer


def clock() -> float:
    """Return the time, once everything asked of the device is done."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def latencies(
    *calls: Callable[[], Any], warm_up: int = 10, seconds: float = 3.0
) -> list[float]:
    """Return the median time of each call; they take turns, so that noise hits all."""
    for _ in range(warm_up):
        for call in calls:
            call()
    times: list[list[float]] = [[] for _ in calls]
    end = clock() + seconds * len(calls)
    while clock() < end or len(times[0]) < 30:
        for call, spent in zip(calls, times, strict=True):
            started = clock()
            call()
            spent.append(clock() - started)
    return [statistics.median(spent) for spent in times]


def label_ids(task: dict) -> tuple[list[str], list[int]]:
    """Return the labels, sorted, and the number of each training text's one."""
    labels = sorted(set(task["y"]))
    return labels, [labels.index(label) for label in task["y"]]


def accuracy(task: dict, predicted: Iterable[Any]) -> float:
    """Return the share of test texts whose label was found."""
    right = [str(a) == str(b) for a, b in zip(predicted, task["y_test"], strict=True)]
    return sum(right) / len(right)


def surroundings() -> dict:
    """Return where this ran: device, threads, versions."""
    import torch

    device = "cpu"
    if torch.cuda.is_available():
        device = torch.cuda.get_device_name()
    return {
        "device": device,
        "threads": torch.get_num_threads(),
        "versions": f"torch {version('torch')}, transformers {version('transformers')}",
    }
