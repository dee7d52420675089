"""Profile a fit: matrix products, optimizer and other operations.

Fits one epoch under PyTorch's profiler and prints the most expensive operations, to
explain the hardware utilization that ``benchmarks.speed`` reports::

    python -m benchmarks.profiling path/to/data --sets sst2
"""

import argparse
import collections
import pathlib

import torch
from torch.profiler import ProfilerActivity, profile

from sktransformers import TransformerClassifier

from .texts import load_set, task_of

KINDS = {
    "matrix products": ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm"),
    "optimizer and clipping": ("adamw", "norm", "AdamW", "clip", "foreach"),
    "conversion between formats": ("aten::copy_", "aten::_to_copy", "aten::to"),
    "dropout masks": ("bernoulli", "aten::ge", "random"),
}


def kind_of(operation: str) -> str:
    """Return the category of an operation."""
    if "layer_norm" in operation:
        return "activations, softmax, normalization and the rest"
    for kind, names in KINDS.items():
        if any(name in operation for name in names):
            return kind
    return "activations, softmax, normalization and the rest"


def main() -> None:
    """Profile one fit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="?", type=pathlib.Path)
    parser.add_argument("--sets", nargs="+", default=["mixed"])
    parser.add_argument("--size", type=int, default=640)
    parser.add_argument("--batch-size", type=int, default=16)
    options = parser.parse_args()
    for name in options.sets:
        data = load_set(options.data, name)
        task = task_of(data, name, size=options.size, n_test=1)
        model = TransformerClassifier(
            max_epochs=1, batch_size=options.batch_size, random_state=0
        )
        model.fit(task["X"][:64], task["y"][:64])  # warm-up
        with profile(activities=[ProfilerActivity.CPU]) as profiled:
            model.fit(task["X"], task["y"])
        report(name, profiled, model.history_[0])


def report(name: str, profiled: profile, record: dict) -> None:
    """Print the most expensive operations, in milliseconds per step."""
    n_steps = record["n_steps"]
    n_tokens = record["tokens_per_second"] * record["seconds"]
    kinds: collections.Counter = collections.Counter()
    operations: collections.Counter = collections.Counter()
    for event in profiled.key_averages():
        milliseconds = event.self_cpu_time_total / 1000 / n_steps
        kinds[kind_of(event.key)] += milliseconds
        operations[event.key] += milliseconds
    print(
        f"{name}: {record['seconds'] / n_steps * 1000:.0f} ms a step of "
        f"{n_tokens / n_steps:.0f} tokens, {torch.get_num_threads()} threads. "
        "Milliseconds a step, the pass that starts the head included:"
    )
    for rows in (kinds.most_common(), operations.most_common(15)):
        print(
            *(f"{milliseconds:8.1f}  {what}" for what, milliseconds in rows), sep="\n"
        )
        print()


if __name__ == "__main__":
    main()
