"""What each step of the recipe buys: milliseconds of a training step, one by one.

Every rung adds one thing to the one before; all train the same texts, and take turns.
The last rung is one that was left out: weights in bfloat16 beside a master copy in
float32::

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

from sktransformers._prediction import to_tensors
from sktransformers.engine.optimization import make_schedule
from sktransformers.engine.training import Batch, Trainer
from sktransformers.models.attention import PLAIN, set_attention
from sktransformers.models.dropout import set_fast_dropout
from sktransformers.models.loading import find_checkpoint
from sktransformers.models.modules import build
from sktransformers.models.vocabulary import compact_vocabulary
from sktransformers.text.batching import training_batches
from sktransformers.text.encoding import Encoding, SpecialTokens, encode, tokenize

from .texts import load_set, task_of

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
CPU = torch.device("cpu")


@dataclasses.dataclass(frozen=True)
class Rung:
    """What is switched on, from the bottom of the ladder to the top."""

    name: str
    pooled: bool = True
    fused: bool = True
    precision: str = "bfloat16"
    attention: str = PLAIN
    fast_dropout: bool = True
    compact: bool = True
    master: bool = False


FIRST = Rung(
    "random batches, float32",
    pooled=False,
    fused=False,
    precision="float32",
    attention="sdpa",
    fast_dropout=False,
    compact=False,
)


def rungs() -> list[Rung]:
    """Return the ladder."""
    ladder = [FIRST]
    for name, change in (
        ("batches of like length", {"pooled": True}),
        ("fused AdamW", {"fused": True}),
        ("bfloat16", {"precision": "bfloat16"}),
        ("attention of plain products", {"attention": PLAIN}),
        ("fast dropout", {"fast_dropout": True}),
        ("embeddings of the texts' own tokens", {"compact": True}),
        ("left out: weights in bfloat16", {"master": True}),
    ):
        ladder.append(dataclasses.replace(ladder[-1], name=name, **change))
    return ladder


class MasterTrainer(Trainer):
    """A trainer whose model computes in bfloat16, on copies of the weights."""

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
        """Make one step; gradients and weights go from one copy to the other."""
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


def make_trainer(rung: Rung, encoding: Encoding, n_classes: int) -> Trainer:
    """Return a trainer of a fresh model."""
    checkpoint = find_checkpoint(MODEL)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build(
            checkpoint, n_outputs=n_classes, pooling="mean", dtype=torch.float32
        )
    set_attention(model, rung.attention)
    set_fast_dropout(model, active=rung.fast_dropout)
    if rung.compact:
        compact_vocabulary(model, model.encoder, encoding.ids.values)
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=5e-5, fused=rung.fused)
    return (MasterTrainer if rung.master else Trainer)(
        model=model,
        loss=lambda outputs, y: functional.cross_entropy(outputs, y, reduction="none"),
        optimizer=optimizer,
        schedule=make_schedule(optimizer, "constant", n_steps=1, warmup_ratio=0),
        device=CPU,
        precision=rung.precision,
        max_grad_norm=1.0,
    )


def make_batches(rung: Rung, encoding: Encoding, y: np.ndarray, size: int) -> list:
    """Return the batches of one epoch."""
    rng = np.random.default_rng(0)
    if rung.pooled:
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
    """Climb the ladder on each set and print it."""
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
        climbers = [
            (
                make_trainer(rung, encoding, len(classes)),
                make_batches(rung, encoding, y, options.batch_size),
            )
            for rung in rungs()
        ]
        print(f"\n{name}: {encoding.lengths.sum() / len(climbers[0][1]):.0f} tokens")
        print(climb(climbers, options.repeats).to_string(index=False))


def climb(climbers: list, repeats: int) -> pd.DataFrame:
    """Time all rungs in turns, after one turn that warms up."""
    seconds: list[list[float]] = [[] for _ in climbers]
    for repeat in range(1 + repeats):
        for (trainer, batches), times in zip(climbers, seconds, strict=True):
            started = time.perf_counter()
            for batch in batches:
                trainer.step(lambda _, batch=batch: [batch])
            if repeat:
                times.append((time.perf_counter() - started) / len(batches))
    medians = 1000 * np.median(seconds, axis=1)
    return pd.DataFrame(
        {
            "cumulative": [rung.name for rung in rungs()],
            "ms a step": medians.round(1),
            "gain": (np.append(medians[:1], medians[:-1]) / medians).round(2),
            "in all": (medians[0] / medians).round(2),
        }
    )


if __name__ == "__main__":
    main()
