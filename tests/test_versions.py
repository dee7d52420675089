"""What a bug report says of a machine, and what it must not."""

import getpass
import platform
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import torch

import sktransformers
from sktransformers import _show_versions

ROOT = Path(__file__).parents[1]


def shown(capsys):
    sktransformers.show_versions()
    return capsys.readouterr().out


def test_versions_and_devices_are_told(capsys):
    out = shown(capsys)
    facts = dict(re.findall(r"^ +(.+?): (.*)$", out, flags=re.MULTILINE))
    assert facts["sktransformers"] == sktransformers.__version__
    for package in ("numpy", "scikit-learn", "torch", "transformers"):
        assert facts[package] == version(package)
    assert facts["python"].endswith(platform.python_version())
    assert facts["threads"] == str(torch.get_num_threads())
    assert facts['device="auto"'] in ("cpu", "cuda", "mps")
    assert facts['precision="auto"'] in ("float32", "bfloat16")


def test_what_is_not_installed_is_none(capsys, monkeypatch):
    monkeypatch.setattr(_show_versions, "_OPTIONAL", ("no-such-package",))
    assert "no-such-package: None" in shown(capsys)


def test_no_paths_names_or_environment(capsys, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    out = shown(capsys)
    private = [str(ROOT), sys.prefix, platform.node(), "hf_secret"]
    private += [getpass.getuser()] if getpass.getuser() != "root" else []
    for text in private:
        assert text not in out


def test_every_package_that_is_used_is_told():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    used = [*project["dependencies"]]
    for extra in extras.keys() - {"bench", "docs", "test"}:
        used += extras[extra]
    names = {re.split(r"[<>=\[ ]", requirement)[0] for requirement in used}
    assert names <= {*_show_versions._REQUIRED, *_show_versions._OPTIONAL}


def test_the_name_alone_imports_no_torch():
    program = (
        "import sys, sktransformers; sktransformers.show_versions; "
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, timeout=60, check=False
    )
    assert done.returncode == 0


def test_a_bug_report_asks_for_it():
    template = ROOT / ".github" / "ISSUE_TEMPLATE" / "bug_report.yml"
    assert "sktransformers.show_versions()" in template.read_text("utf-8")
