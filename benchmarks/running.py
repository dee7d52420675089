"""Run benchmark configurations in separate processes and store their results."""

import argparse
import dataclasses
import json
import pathlib
import subprocess
import sys
import time

import pandas as pd

from sktransformers._models.bundled import find_embedded

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
PEERS = pathlib.Path(__file__).parent / "peers"


@dataclasses.dataclass(frozen=True)
class Contestant:
    """A library configuration that a benchmark compares.

    Attributes
    ----------
    name : str
        Name in the tables.
    script : str
        File name in benchmarks/peers.
    options : dict
        Options of the script in addition to the task.
    is_peer : bool
        Whether it runs in the environment of the other libraries.
    is_short : bool
        Whether it is part of the short benchmark.
    """

    name: str
    script: str
    options: dict = dataclasses.field(default_factory=dict)
    is_peer: bool = True
    is_short: bool = False

    def is_wanted(self, names: list[str] | None) -> bool:
        """Return whether the name contains one of the strings; None selects all."""
        return names is None or any(name in self.name for name in names)


def make_parser(description: str, *, out: str, size: int) -> argparse.ArgumentParser:
    """Return a parser of the options that the benchmarks share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("data", nargs="?", type=pathlib.Path)
    parser.add_argument("--sets", nargs="+", help='"mixed", "docstrings", folders')
    parser.add_argument(
        "--size", type=int, default=size, help="number of training texts"
    )
    parser.add_argument("--contestants", nargs="+", help="substrings of names")
    parser.add_argument(
        "--peer", default=sys.executable, help="Python of the other libraries"
    )
    folder = find_embedded(MODEL)
    parser.add_argument(
        "--model",
        default=folder,
        required=folder is None,
        help="directory of a BERT model",
    )
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(out))
    parser.add_argument(
        "--report", action="store_true", help="only print existing results"
    )
    return parser


def measure(contestant: Contestant, task: dict, peer: str = sys.executable) -> dict:
    """Run a configuration on a task and return its result.

    Parameters
    ----------
    contestant : Contestant
        Configuration to run.
    task : dict
        Input of the script, without the options of the configuration.
    peer : str
        Python executable of the environment of the other libraries.

    Returns
    -------
    dict
        Output of the script; only the key "skipped" if it cannot run here.

    Raises
    ------
    RuntimeError
        If the process failed; the message contains the end of its stderr.
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
    """Append a row to a CSV file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frame = pd.DataFrame([row]).reindex(columns=list(columns))
    frame.to_csv(path, mode="a", header=not path.exists(), index=False)


def rows_done(path: pathlib.Path, keys: tuple[str, ...]) -> set[tuple]:
    """Return the keys of the rows in a CSV file."""
    if not path.exists():
        return set()
    frame = pd.read_csv(path, dtype=dict.fromkeys(keys, str))
    return set(frame[list(keys)].itertuples(index=False, name=None))


def busy_share(seconds: float = 0.5) -> float | None:
    """Return the current CPU utilization, from 0 to 1; None if unknown.

    Sampled over a short interval, as the load average still includes the previous run.
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
    """Return the idle and the total time of all CPUs from /proc/stat."""
    path = pathlib.Path("/proc/stat")
    if not path.exists():
        return None
    times = [int(field) for field in path.read_text().split("\n", 1)[0].split()[1:9]]
    return times[3] + times[4], sum(times)


def say(text: str) -> None:
    """Print progress to stderr; only the tables are printed to stdout."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
