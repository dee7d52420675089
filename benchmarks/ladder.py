"""Ablation of the training optimizations: milliseconds per training step.

Each configuration adds one optimization to the previous one; all train on the same
texts and alternate. The last one is not used in the package: weights in bfloat16 with a
master copy in float32::

    python -m benchmarks.ladder path/to/data --sets sst2
"""

import argparse
import dataclasses
import pathlib
import time

import numpy as np
import pandas as pd
import torch
from torch.nn import functional

from sktransformers._hardware.attention import PLAIN, set_attention
from sktransformers._hardware.dropout import set_fast_dropout
from sktransformers._hardware.vocabulary import compact_vocabulary
from sktransformers._inference.predict import to_tensors
from sktransformers._models.heads import build
from sktransformers._models.loading import find_checkpoint
from sktransformers._text.batching import training_batches
from sktransformers._text.encoding import Encoding, encode
from sktransformers._text.tokenization import SpecialTokens, tokenize
from sktransformers._training.loop import Batch, Trainer
from sktransformers._training.optimizer import make_schedule

from .texts import load_set, task_of

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
CPU = torch.device("cpu")


@dataclasses.dataclass(frozen=True)
class Config:
    """A configuration of the ablation: the optimizations that are enabled."""

    name: str
    pooled: bool = True
    fused: bool = True
    precision: str = "bfloat16"
    attention: str = PLAIN
    fast_dropout: bool = True
    compact: bool = True
    master: bool = False


FIRST = Config(
    "random batches, float32",
    pooled=False,
    fused=False,
    precision="float32",
    attention="sdpa",
    fast_dropout=False,
    compact=False,
)


def configs() -> list[Config]:
    """Return the configurations, each with one more optimization."""
    steps = [FIRST]
    for name, change in (
        ("batches of similar length", {"pooled": True}),
        ("fused AdamW", {"fused": True}),
        ("bfloat16", {"precision": "bfloat16"}),
        ("attention as plain matrix products", {"attention": PLAIN}),
        ("fast dropout", {"fast_dropout": True}),
        ("only embeddings of tokens in the texts", {"compact": True}),
        ("not used: weights in bfloat16", {"master": True}),
    ):
        steps.append(dataclasses.replace(steps[-1], name=name, **change))
    return steps


class MasterTrainer(Trainer):
    """Trainer of bfloat16 weights with a float32 master copy."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._pairs = []
        wanted = {id(parameter) for parameter in self._parameters}
        for module in self.model.modules():
            for name, master in list(module._parameters.items()):
                if id(master) in wanted:
                    low = torch.nn.Parameter(master.detach().bfloat16())
                    module._parameters[name] = low
                    self._pairs.append((master, low))

    def step(self, batches: list[Batch]) -> float:
        """Make one step on the master copy and copy the weights back to the model."""
        (batch,) = batches
        outputs = self.model(**batch.inputs).float()
        loss = self.loss(outputs, batch.targets) @ batch.weights
        loss.backward()
        used = [(master, low) for master, low in self._pairs if low.grad is not None]
        for master, low in used:
            master.grad = low.grad.float()
            low.grad = None
        torch.nn.utils.clip_grad_norm_(self._parameters, 1.0)
        self.optimizer.step()
        self.schedule.step()
        with torch.no_grad():
            for master, low in used:
                low.copy_(master)
        return float(loss.detach())


def make_trainer(config: Config, encoding: Encoding, n_classes: int) -> Trainer:
    """Return a trainer of a newly loaded model."""
    checkpoint = find_checkpoint(MODEL)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build(
            checkpoint, n_outputs=n_classes, pooling="mean", dtype=torch.float32
        )
    set_attention(model, config.attention)
    set_fast_dropout(model, active=config.fast_dropout)
    if config.compact:
        compact_vocabulary(model, model.encoder, encoding.ids.values)
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=5e-5, fused=config.fused)
    return (MasterTrainer if config.master else Trainer)(
        model=model,
        loss=lambda outputs, y: functional.cross_entropy(outputs, y, reduction="none"),
        optimizer=optimizer,
        schedule=make_schedule(optimizer, "constant", n_steps=1, warmup_ratio=0),
        device=CPU,
        precision=config.precision,
        max_grad_norm=1.0,
    )


def make_batches(config: Config, encoding: Encoding, y: np.ndarray, size: int) -> list:
    """Return the batches of one epoch."""
    rng = np.random.default_rng(0)
    if config.pooled:
        groups = training_batches(encoding.lengths, size, rng)
    else:
        groups = np.array_split(rng.permutation(len(y)), -(-len(y) // size))
    return [
        Batch(
            to_tensors(encoding.pad(rows), CPU),
            torch.from_numpy(y[rows]),
            torch.full((len(rows),), 1 / len(rows)),
            n_tokens=int(encoding.lengths[rows].sum()),
        )
        for rows in groups
    ]


def main() -> None:
    """Run the ablation on each data set and print the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="?", type=pathlib.Path)
    parser.add_argument("--sets", nargs="+", default=["mixed"])
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    tokenizer = find_checkpoint(MODEL).tokenizer
    for name in options.sets:
        task = task_of(load_set(options.data, name), name, size=options.size, n_test=1)
        classes, y = np.unique(task["y"], return_inverse=True)
        special = SpecialTokens.of(tokenizer)
        tokens = tokenize(tokenizer, task["X"])
        encoding = encode([tokens], special, max_length=256, window=False)
        runs = [
            (
                make_trainer(config, encoding, len(classes)),
                make_batches(config, encoding, y, options.batch_size),
            )
            for config in configs()
        ]
        print(f"\n{name}: {encoding.lengths.sum() / len(runs[0][1]):.0f} tokens")
        print(time_steps(runs, options.repeats).to_string(index=False))


def time_steps(runs: list, repeats: int) -> pd.DataFrame:
    """Time the configurations alternately, after one warm-up round."""
    seconds: list[list[float]] = [[] for _ in runs]
    for repeat in range(1 + repeats):
        for (trainer, batches), times in zip(runs, seconds, strict=True):
            started = time.perf_counter()
            for batch in batches:
                trainer.step(lambda _, batch=batch: [batch])
            if repeat:
                times.append((time.perf_counter() - started) / len(batches))
    medians = 1000 * np.median(seconds, axis=1)
    return pd.DataFrame(
        {
            "cumulative": [config.name for config in configs()],
            "ms a step": medians.round(1),
            "gain": (np.append(medians[:1], medians[:-1]) / medians).round(2),
            "in all": (medians[0] / medians).round(2),
        }
    )


if __name__ == "__main__":
    main()
