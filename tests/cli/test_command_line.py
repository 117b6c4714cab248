"""The command line of the library, as a user meets it."""

import json
import subprocess
import sys

import numpy as np
import pytest

from capriole import __version__
from capriole.cli import load_target
from commands import here, process

MODEL = """
import jax.numpy as jnp

def logdensity(x):
    return -0.5 * jnp.sum((x - 1.0) ** 2 / jnp.arange(1.0, x.shape[0] + 1.0, dtype=x.dtype))

def vector(x):
    return -x ** 2

def outside(x):
    return jnp.where(jnp.sum(x) > 100, 0.0, -jnp.inf) * jnp.ones((), x.dtype)

def positive(x):
    return jnp.where(jnp.all(x > 0), -jnp.sum(x), -jnp.inf)

def above(x):
    return jnp.where(jnp.all(x > -2), -jnp.sum(x), -jnp.inf)

not_a_function = 3
"""
WITH_A_HELPER = """
from __future__ import annotations
from dataclasses import dataclass
import beside

@dataclass
class Settings:
    scale: float = beside.SCALE

def logdensity(x):
    return -(x * x).sum() / Settings().scale
"""
QUICK = ["--num-chains", "4", "--num-draws", "10", "--train-steps", "0", "--no-compare"]


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.py"
    path.write_text(MODEL)
    return path


def test_help_lists_the_commands_and_imports_nothing_heavy():
    code = (
        "import sys; from capriole.cli import main; sys.argv = ['capriole', '--help']\n"
        "try: main()\n"
        "except SystemExit as e: assert not e.code\n"
        "heavy = {'jax', 'numpy', 'arviz', 'matplotlib', 'xarray'} & set(sys.modules); assert not "
        "heavy, heavy"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    for name in ("fit", "resume", "extend", "doctor", "show"):
        assert name in result.stdout


def test_a_file_may_hold_dataclasses_and_import_what_stands_beside_it(tmp_path):
    (tmp_path / "model.py").write_text(WITH_A_HELPER)
    (tmp_path / "beside.py").write_text("SCALE = 2.0")
    assert float(load_target(f"{tmp_path}/model.py:logdensity", dim=2)(np.ones(2))) == -1.0


def test_a_density_without_0_is_told_what_the_command_line_can_do(model):
    with pytest.raises(
        ValueError, match="the command line starts around 0, so shift or transform the position"
    ):
        load_target(f"{model}:positive", dim=2)


def test_the_version_is_said():
    result = process("--version")
    assert (result.returncode, result.stdout) == (0, f"capriole {__version__}\n")


@pytest.mark.parametrize(
    ("function", "dim", "complaint"),
    [
        ("vector", 3, "must return a scalar, got shape (3,)"),
        ("outside", 3, "outside the support"),
        ("missing", 3, "has no function 'missing'"),
        ("not_a_function", 3, "has no function"),
    ],
)
def test_a_density_that_cannot_work_is_refused_in_one_line(
    model, tmp_path, function, dim, complaint
):
    result = here("fit", f"{model}:{function}", "--dim", dim, *QUICK, "--out", tmp_path / "x")
    assert result.exit_code == 2, result.output
    assert complaint in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (("fit", "nowhere.py:f", "--dim", "2"), "no file nowhere.py"),
        (("fit", "nowhere.py:f"), "no file nowhere.py"),
        (("fit", "model", "--dim", "2"), "expected FILE.py:FUNCTION"),
        (("resume", "nowhere"), "cannot read"),
        (("doctor", "nowhere.py:f", "--dim", "2"), "no file nowhere.py"),
        (("show", "nowhere"), "cannot read"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(args, complaint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = here(*args)
    assert result.exit_code == 2, result.output
    assert complaint in result.stderr
    assert "Traceback" not in result.stderr


def test_a_folder_that_cannot_be_made_is_refused(model, tmp_path):
    (tmp_path / "file").write_text("in the way")
    out = tmp_path / "file" / "run"
    result = here("fit", f"{model}:logdensity", "--dim", 2, *QUICK, "--out", out)
    assert result.exit_code == 2, result.output
    assert "choose another --out" in result.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def f(x:\n", "model.py failed when it was imported: SyntaxError"),
        ("import nothing_of_that_name\n", "in line 1 when it was imported: ModuleNotFoundError"),
        ("known = {}\nknown['prior']\n", "in line 2 when it was imported: KeyError: 'prior'"),
    ],
)
def test_a_file_that_cannot_be_imported_is_one_line(tmp_path, text, words):
    path = tmp_path / "model.py"
    path.write_text(text)
    for words_of in (
        ("doctor",),
        ("fit", "--out", tmp_path / "fit"),
    ):
        found = here(*words_of, f"{path}:f", "--dim", 2)
        assert (found.exit_code, words in " ".join(found.output.split())) == (2, True), found.output


def test_a_run_that_is_refused_for_its_starts_takes_no_folder(model, tmp_path):
    out = tmp_path / "run"
    words = ("--dim", 2, *QUICK, "--spread", 3, "--out", out)
    refused = here("fit", f"{model}:above", *words)
    assert (refused.exit_code, "a smaller spread" in refused.stderr) == (2, True), refused.output
    assert not (out / "config.json").exists()


def test_a_run_folder_never_chooses_code_to_run(tmp_path):
    trap = tmp_path / "executed"
    (tmp_path / "evil.py").write_text(f"open({str(trap)!r}, 'w')\ndef f(x): return x.sum()")
    config = {
        "command": "fit",
        "seed": 0,
        "num_chains": 4,
        "num_draws": 10,
        "spread": 1.0,
        "train_steps": 0,
        "num_warmup_chains": 16,
        "compare": False,
        "criterion": "gradients",
    }
    origin = {
        "function": f"{tmp_path}/evil.py:f",
        "dim": 2,
        "spread": 1.0,
        "float64": False,
    }
    (tmp_path / "config.json").write_text(json.dumps(config | {"origin": origin}))
    done = here("resume", tmp_path)
    assert done.exit_code == 2, done.output
    assert "never chooses code to run" in done.stderr
    assert not trap.exists()
