"""The floors in pyproject.toml are those that the lowest-versions run installs."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def pins(file: str) -> dict[str, str]:
    """Read ``name==version`` lines."""
    text = (ROOT / file).read_text(encoding="utf-8")
    return dict(re.findall(r"^([\w.-]+)==(\S+)$", text, flags=re.MULTILINE))


def floors(requirements: list[str]) -> dict[str, str]:
    """Read ``name>=version`` requirements; all of ours have this form."""
    return dict(requirement.split(">=") for requirement in requirements)


def release(version: str) -> list[int]:
    numbers = [int(part) for part in version.split(".")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return numbers


EXTRAS = PROJECT["project"]["optional-dependencies"]
RUNTIME = floors(
    PROJECT["project"]["dependencies"]
    + EXTRAS["plot"]
    + EXTRAS["onnx"]
    + EXTRAS["openvino"]
)


@pytest.mark.parametrize("name", RUNTIME)
def test_the_lowest_run_installs_the_floor(name):
    assert release(pins("constraints-lowest.txt")[name]) == release(RUNTIME[name])


@pytest.mark.parametrize("name", RUNTIME)
def test_the_tested_set_pins_every_dependency(name):
    assert release(pins("constraints.txt")[name]) >= release(RUNTIME[name])


def test_the_embedded_extra_is_the_hashed_requirement():
    text = (ROOT / "requirements" / "embedded.txt").read_text(encoding="utf-8")
    for requirement in EXTRAS["embedded"]:
        assert f"{requirement} \\\n    --hash=sha256:" in text
