"""Runs contestants one at a time, in processes of their own, and keeps their rows."""

import argparse
import dataclasses
import json
import pathlib
import subprocess
import sys
import time

import pandas as pd

from sktransformers.models.embedded import find_embedded

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
PEERS = pathlib.Path(__file__).parent / "peers"


@dataclasses.dataclass(frozen=True)
class Contestant:
    """One way to do a work.

    Attributes
    ----------
    name : str
        As the tables call it.
    script : str
        Its file in benchmarks/peers.
    options : dict
        What the script is told beside the task.
    is_peer : bool
        Whether it runs in the peers' environment rather than in ours.
    is_short : bool
        Whether the short form has it.
    """

    name: str
    script: str
    options: dict = dataclasses.field(default_factory=dict)
    is_peer: bool = True
    is_short: bool = False

    def is_wanted(self, names: list[str] | None) -> bool:
        """Whether the name has one of the given parts; None asks for all."""
        return names is None or any(name in self.name for name in names)


def make_parser(description: str, *, out: str, size: int) -> argparse.ArgumentParser:
    """Return a parser of the options that the benchmarks with contestants share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("data", nargs="?", type=pathlib.Path)
    parser.add_argument("--sets", nargs="+", help='"mixed", "docstrings", folders')
    parser.add_argument("--size", type=int, default=size, help="texts to fit on")
    parser.add_argument("--contestants", nargs="+", help="parts of their names")
    parser.add_argument("--peer", default=sys.executable, help="Python with the peers")
    folder = find_embedded(MODEL)
    parser.add_argument(
        "--model", default=folder, required=folder is None, help="folder of a BERT"
    )
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(out))
    parser.add_argument("--report", action="store_true", help="run nothing")
    return parser


def measure(contestant: Contestant, task: dict, peer: str = sys.executable) -> dict:
    """Run a contestant on a task and return its result.

    Parameters
    ----------
    contestant : Contestant
        Who runs.
    task : dict
        What the script reads, without the contestant's options.
    peer : str
        The Python of the peers' environment.

    Returns
    -------
    dict
        What the script printed; "skipped" alone where it cannot run here.

    Raises
    ------
    RuntimeError
        The process failed; the message ends as its error output does.
    """
    finished = subprocess.run(
        [peer if contestant.is_peer else sys.executable, PEERS / contestant.script],
        input=json.dumps({**task, "options": contestant.options}),
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode:
        raise RuntimeError(f"{contestant.name} failed:\n{finished.stderr[-2000:]}")
    result: dict = json.loads(finished.stdout)
    return result


def append(path: pathlib.Path, row: dict, columns: tuple[str, ...]) -> None:
    """Add a row to a CSV file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frame = pd.DataFrame([row]).reindex(columns=list(columns))
    frame.to_csv(path, mode="a", header=not path.exists(), index=False)


def rows_done(path: pathlib.Path, keys: tuple[str, ...]) -> set[tuple]:
    """Return the keys of the rows that a CSV file has."""
    if not path.exists():
        return set()
    frame = pd.read_csv(path, dtype=dict.fromkeys(keys, str))
    return set(frame[list(keys)].itertuples(index=False, name=None))


def busy_share(seconds: float = 0.5) -> float | None:
    """Return the share of the processors that is in use now; None where unknown.

    Measured over a moment, since the load average still counts the last contestant.
    """
    before = _processor_times()
    if before is None:
        return None
    time.sleep(seconds)
    after = _processor_times()
    assert after is not None
    idle, total = (b - a for a, b in zip(before, after, strict=True))
    return round(1 - idle / total, 3)


def _processor_times() -> tuple[int, int] | None:
    """Return the idle and the whole time of all processors, as Linux counts them."""
    path = pathlib.Path("/proc/stat")
    if not path.exists():
        return None
    times = [int(field) for field in path.read_text().split("\n", 1)[0].split()[1:9]]
    return times[3] + times[4], sum(times)


def say(text: str) -> None:
    """Tell how far the run is; the tables alone go to standard output."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
