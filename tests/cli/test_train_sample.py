"""``capriole train`` and ``capriole sample``: what Python's functions do, in run folders."""

import json

import jax
import jaxtyping
import numpy as np
import pytest
from typer.testing import CliRunner

import capriole
from capriole.cli import load_target
from capriole.cli._app import app
from capriole.cli._train import read_config

MODEL = """
import jax.numpy as jnp

def logdensity(x):
    return -0.5 * jnp.sum((x - 1.0) ** 2 / jnp.arange(1.0, x.shape[0] + 1.0, dtype=x.dtype))

def above(x):
    return jnp.where(jnp.all(x > -2), -jnp.sum(x), -jnp.inf)
"""
TRAIN = ["--dim", 2, "--num-leapfrogs", 2, "--num-chains", 8, "--num-steps", 300, "--seed", 3]
SAMPLE = ["--num-draws", 60, "--num-warmup", 20, "--seed", 5]


@pytest.fixture(autouse=True)
def as_in_a_process_of_its_own(monkeypatch):
    """The command sets the precision for its process; afterwards it is as it was."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    before = jax.config.read("jax_enable_x64")
    jax.config.update("jax_enable_x64", True)
    with jax.numpy_dtype_promotion("standard"):
        yield
    jax.config.update("jax_enable_x64", before)


def run(*words):
    return CliRunner().invoke(app, [*map(str, words)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model, and a kernel that the command trained on it: stopped and resumed."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "model.py").write_text(MODEL)
    out, spec = folder / "train", f"{folder / 'model.py'}:logdensity"
    before = jax.config.read("jax_enable_x64")
    with jax.numpy_dtype_promotion("standard"):
        stopped = run("train", spec, *TRAIN, "--time-budget", 0.001, "--out", out)
        assert stopped.exit_code == 75, stopped.output
        assert f"go on with: capriole resume {out}\n" in stopped.output
        assert not (out / "kernel.safetensors").exists()
        done = run("resume", out)
    jax.config.update("jax_enable_x64", before)
    assert done.exit_code == 0, done.output
    assert "trained for 300 steps" in done.output
    assert f"--kernel {out / 'kernel.safetensors'}" in done.output
    return folder


def spec_of(folder):
    return f"{folder / 'model.py'}:logdensity"


def test_help_lists_the_commands_in_the_order_of_use():
    lines = run("--help").output.splitlines()
    names = [line.split()[1] for line in lines if line.startswith("│ ") and line[2].isalpha()]
    assert names == ["fit", "sample", "train", "resume", "extend", "show", "doctor"]


def test_the_kernel_is_that_of_train_in_python(folder):
    target = load_target(spec_of(folder), dim=2)
    expected = capriole.train(target, seed=3, num_leapfrogs=2, num_chains=8, num_steps=300)
    kernel = capriole.load(folder / "train" / "kernel.safetensors", target)
    for one, other in zip(
        jax.tree.leaves(expected.transition.dynamics),
        jax.tree.leaves(kernel.dynamics),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)
    stored = json.loads((folder / "train" / "training.json").read_text())
    np.testing.assert_allclose(stored["history"]["loss"], expected.history["loss"], rtol=1e-6)
    assert stored["num_gradients"] == expected.num_gradients
    assert "trained for 300 steps" in run("show", folder / "train").output


def test_the_draws_are_those_of_sample_in_python(folder, tmp_path):
    spec, kernel = spec_of(folder), folder / "train" / "kernel.safetensors"
    out, whole = tmp_path / "run", tmp_path / "whole"
    words = ("sample", spec, "--kernel", kernel, *SAMPLE)
    stopped = run(*words, "--time-budget", 0.001, "--out", out)
    assert stopped.exit_code == 75, stopped.output
    done = run("resume", out)
    assert done.exit_code == 0, done.output
    for word in ("r_hat", "x[0]", "x[1]", f"everything is in {out}"):
        assert word in done.output
    longer = run("extend", out, spec, "--num-draws", 40)
    assert longer.exit_code == 0, longer.output
    assert run(*words, "--num-draws", 100, "--json", "--out", whole).exit_code == 0

    transition = capriole.load(kernel, load_target(spec, dim=2))
    expected = capriole.sample(transition, seed=5, num_draws=100, num_warmup=20)
    for path in (out, whole):
        tree = capriole.runs.open_draws(path)
        for group in ("posterior", "sample_stats"):
            for name in expected[group].data_vars:
                np.testing.assert_array_equal(tree[group][name], expected[group][name])
        attributes = tree["sample_stats"].attrs
        assert attributes["num_gradients"] == expected["sample_stats"].attrs["num_gradients"]
        assert set(attributes) == set(expected["sample_stats"].attrs)
    assert "r_hat" in run("show", out).output


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("train", "model.py", "--dim", 2), "name the function too: model.py:FUNCTION"),
        (("train", "model:logdensity", "--dim", 2), "name the file with its ending: model.py:"),
        (("train", "model.py:logdensity"), "model.py:logdensity: --dim N; or one position of it"),
        (("train", "model.py:above", "--dim", 2, "--spread", 3), "a smaller spread"),
        (("sample", "model.py:logdensity", "--kernel", "none"), "no kernel file at none"),
        (("sample", "model.py:logdensity", "--kernel", "model.py"), "is not a kernel file"),
        (("extend", "train", "model.py:logdensity"), "a training, which has no draws"),
    ],
)
def test_bad_input_is_one_line_and_takes_no_folder(folder, monkeypatch, words, complaint):
    monkeypatch.chdir(folder)
    found = run(*words)
    assert found.exit_code == 2, found.output
    assert complaint in " ".join(found.output.split())
    assert not (folder / "runs").exists()


def test_a_kernel_of_another_density_is_refused(folder, tmp_path):
    (tmp_path / "other.py").write_text("def f(x):\n    return -(x**4).sum()\n")
    kernel = folder / "train" / "kernel.safetensors"
    found = run("sample", f"{tmp_path / 'other.py'}:f", "--kernel", kernel, "--out", tmp_path / "x")
    assert found.exit_code == 2, found.output
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"origin": None},
        {"seed": 2**70},
        {"num_steps": 0},
        {"num_chains": True},
        {"num_leapfrogs": 10**12},
        {"start_temperature": "hot"},
    ],
    ids=str,
)
def test_configurations_are_checked_field_by_field(change):
    origin = {"function": "f.py:f", "dim": 2, "spread": 1.0, "float64": True}
    sound = {"seed": 0, "num_leapfrogs": 2, "num_steps": 9, "num_chains": 4, "num_candidates": 1}
    sound |= {"start_temperature": 1.0, "origin": origin}
    read_config(sound)
    with pytest.raises(capriole.runs.RunFolderError, match="config"):
        read_config(sound | change)


TREE = """
import jax.numpy as jnp

init = {"mu": 0.0, "beta": jnp.zeros(2)}
shifted = {"mu": 1.0, "beta": jnp.ones(3)}

def logdensity(p):
    return -0.5 * p["mu"] ** 2 - 0.5 * jnp.sum((p["beta"] - p["mu"]) ** 2)
"""


@pytest.mark.parametrize(
    ("words", "dim"),
    [((), 3), (("--init", "shifted"), 4), (("--init", "places.py:one"), 5)],
    ids=["beside", "named", "in another file"],
)
def test_a_position_may_be_any_pytree(tmp_path, monkeypatch, words, dim):
    """Trained, drawn from and resumed by its folder alone, from another place."""
    (tmp_path / "model.py").write_text(TREE)
    (tmp_path / "places.py").write_text("import numpy\none = {'mu': 0.0, 'beta': numpy.zeros(4)}\n")
    monkeypatch.chdir(tmp_path)
    few = ("--num-leapfrogs", 2, "--num-chains", 8, "--num-steps", 4)
    trained = run("train", "model.py:logdensity", *words, *few, "--out", "train")
    assert trained.exit_code == 0, trained.output
    kernel = ("--kernel", "train/kernel.safetensors", *SAMPLE)
    stopped = run(
        "sample", "model.py:logdensity", *words, *kernel, "--time-budget", 0.001, "--out", "draws"
    )
    assert stopped.exit_code == 75, stopped.output
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    done = run("resume", tmp_path / "draws")
    assert done.exit_code == 0, done.output
    assert "beta[0]" in done.output
    posterior = capriole.runs.open_draws(tmp_path / "draws")["posterior"]
    assert posterior["mu"].shape == (4, 60)
    assert posterior["beta"].shape == (4, 60, dim - 1)


def test_the_doctor_takes_a_pytree_and_says_what_a_fit_may_take(tmp_path):
    (tmp_path / "model.py").write_text(TREE)
    found = run("doctor", f"{tmp_path}/model.py:logdensity")
    assert found.exit_code == 0, found.output
    words = " ".join(found.output.split())
    assert "64 gradients at once take" in words
    assert "the warm-up takes" in words


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--init", "none"), "has no 'none', which --init names"),
        (("--init", "init", "--dim", 3), "leave out --dim 3"),
        (("--init", "none.py:init"), "no file none.py"),
    ],
)
def test_an_init_that_cannot_be_is_one_line(tmp_path, words, complaint):
    (tmp_path / "model.py").write_text(TREE)
    found = run("train", f"{tmp_path}/model.py:logdensity", *words, "--out", tmp_path / "run")
    assert found.exit_code == 2, found.output
    assert complaint in " ".join(found.output.split())


@pytest.mark.parametrize("change", ["content", "account"])
def test_a_function_that_is_not_known_is_named_again(tmp_path, monkeypatch, change):
    (tmp_path / "model.py").write_text(TREE)
    spec, out = f"{tmp_path}/model.py:logdensity", tmp_path / "run"
    few = ("--num-chains", 8, "--num-steps", 4, "--time-budget", 0.001)
    assert run("train", spec, *few, "--out", out).exit_code == 75
    if change == "content":
        (tmp_path / "model.py").write_text(TREE + "# changed\n")
    else:
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "other"))
    refused = run("resume", out)
    assert refused.exit_code == 2, refused.output
    words = " ".join(refused.output.split())
    assert "a run folder never chooses code to run" in words
    assert f"capriole resume {out} {spec}" in words
    assert run("resume", out, spec).exit_code == 0
