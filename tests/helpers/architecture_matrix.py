"""Check all architectures, each in a line of output; a process for the slow test.

``python tests/helpers/architecture_matrix.py TASK [TYPE ...]`` prints a JSON list of
task, type, variant and outcome after each check, and the type before its first check,
so that a crash of the process shows which one caused it. Without a type it checks all.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

# In messages of ValueErrors that tell what to do.
REFUSALS = (
    "lora_target_modules",
    "config.axial_pos_shape",  # Reformer's, when it is trained
)
ROOT = Path(__file__).parents[2]


def run_matrix(task: str, *types: str, timeout: int = 1500) -> list[list[str]]:
    """Check architectures in a process; go on behind one that ends the process.

    Parameters
    ----------
    task : {"SequenceClassification", "TokenClassification"}
        Mapping of transformers.
    *types : str
        Values of ``config.model_type``; none stands for all of the mapping.
    timeout : int, default=1500
        Seconds a process may take.

    Returns
    -------
    list of [type, variant, outcome]
        The outcome starts with "works", "cannot be built", "refuses", "fails" or
        "crashes".
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", __file__, task, *types],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        cwd=ROOT,
    )
    lines = [json.loads(x) for x in done.stdout.splitlines() if x.startswith("[")]
    found = [line for line in lines if len(line) == 3]
    if done.returncode == 0:
        return found
    started = [line[0] for line in lines if len(line) == 1]
    if not started:
        raise RuntimeError(done.stderr)
    reason = done.stderr.strip().splitlines()[-1:]
    found.append([started[-1], "", f"crashes: {done.returncode} {reason}"])
    left = remaining(task, types, started[-1])
    return found + (run_matrix(task, *left, timeout=timeout) if left else [])


def remaining(task: str, types: tuple[str, ...], last: str) -> list[str]:
    """Return the types that come after one."""
    from architectures import model_types

    every = list(types) or model_types(task)
    return every[every.index(last) + 1 :]


def outcome_of(model_type: str, task: str, variant: str) -> str:
    """Run one variant of the checks; return a word and the reason."""
    from architecture_checks import check_architecture
    from architectures import CannotBuildError

    from sktransformers.exceptions import SktransformersError

    with tempfile.TemporaryDirectory() as folder:
        try:
            check_architecture(model_type, task, variant, Path(folder))
        except CannotBuildError as error:
            return f"cannot be built: {error}"
        except SktransformersError as error:
            return f"refuses: {error}"
        except Exception as error:
            if any(words in str(error) for words in REFUSALS):
                return f"refuses: {error}"
            return f"fails: {type(error).__name__}: {error}"
    return "works"


def main(task: str, *types: str) -> None:
    """Print the outcomes."""
    from architecture_checks import VARIANTS
    from architectures import model_types

    for model_type in types or model_types(task):
        report(model_type)
        for variant in VARIANTS[task]:
            outcome = outcome_of(model_type, task, variant)
            report(model_type, variant, outcome)


def report(*values: str) -> None:
    """Write a line at once, as the next check may end the process."""
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main(*sys.argv[1:])
