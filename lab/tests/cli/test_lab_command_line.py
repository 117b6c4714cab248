"""The laboratory's command line, as a user meets it."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import commands
from capriole_lab.cli._show import RATIOS, summary

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
TINY = [
    "--preset",
    "smoke",
    "--train-steps",
    "20",
    "--num-chains",
    "8",
    "--num-steps",
    "40",
    "--num-leapfrogs",
    "3",
]


def here(*words, **env):
    return commands.here(*words, package="capriole_lab", **env)


def process(*words):
    return commands.process(*words, package="capriole_lab")


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.py"
    path.write_text(MODEL)
    return path


def test_a_run_that_is_refused_for_its_starts_takes_no_folder(model, tmp_path):
    out = tmp_path / "run"
    refused = here("run", f"{model}:above", "--dim", 2, *TINY, "--spread", 3, "--out", out)
    assert (refused.exit_code, "a smaller spread" in refused.stderr) == (2, True), refused.output
    assert not (out / "config.json").exists()


def test_losing_by_x_squared_alone_is_losing():
    ratios = dict(zip(RATIOS, (3.0, 775.0, 0.83), strict=True))
    assert "lost to HMC" in " ".join(summary({"ratios": ratios, "samplers": {}}))
    assert "lost" not in " ".join(summary({"ratios": dict.fromkeys(RATIOS, 2.0), "samplers": {}}))
    assert "cannot be compared" in " ".join(
        summary({"ratios": ratios | {RATIOS[1]: None}, "samplers": {}})
    )


def test_targets_lists_every_target():
    from capriole_lab.targets import MODELS, POSTERIORS, TARGETS

    result = here("targets", CAPRIOLE_POSTERIORDB="/no/checkout")
    assert result.exit_code == 0, result.output
    for name in [*TARGETS, *MODELS, *POSTERIORS]:
        assert name in result.stdout
    assert (
        "CAPRIOLE_POSTERIORDB='/no/checkout' holds no posteriordb checkout; clone" in result.stdout
    )


def test_a_posterior_without_a_checkout_is_one_clear_line():
    result = here("run", "posteriordb/arK-arK", *TINY, CAPRIOLE_POSTERIORDB="/no/checkout")
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith(
        "error: CAPRIOLE_POSTERIORDB='/no/checkout' holds no posteriordb checkout; clone"
    )


def test_run_writes_the_documented_folder(tmp_path):
    out = tmp_path / "run"
    result = process("run", "mog", *TINY, "--json", "--out", out)
    assert result.returncode == 0, result.stderr
    results = json.loads(result.stdout)
    assert results == json.loads((out / "results.json").read_text())
    assert results["completed"] is True
    assert (results["target"], results["preset"], results["seed"]) == ("mog", "smoke", 0)
    assert {"capriole", "jax", "python"} <= results["versions"].keys()
    assert {"seconds", "compile_seconds", "steps", "num_gradients", "skipped_updates"} <= results[
        "training"
    ].keys()
    rows = results["samplers"]
    assert {
        "l2hmc",
        "l2hmc_one_mode",
        "l2hmc_dispersed",
        "hmc",
        "hmc_paper",
        "hmc_one_mode",
    } <= rows.keys()
    fields = [
        "num_leapfrogs",
        "step_size",
        "num_chains",
        "num_steps",
        "acceptance_rate",
        "divergences",
        "paper_ess_per_step",
        "bulk_ess_per_gradient",
        "bulk_ess_sq_per_gradient",
        "ess_per_second",
        "rhat_max",
        "max_abs_z_mean",
        "max_abs_z_var",
        "num_gradients",
        "sampling_seconds",
        "compile_seconds",
        "mode_weights",
        "mode_switches_per_1000_gradients",
    ]
    for row in rows.values():
        assert set(fields) <= row.keys()
    assert rows["l2hmc"]["num_gradients"] == 8 * 40 * 3
    assert sum(rows["l2hmc"]["mode_weights"]) == pytest.approx(1)
    # HMC cannot leave its mode, and the run says so.
    assert rows["hmc_one_mode"]["mode_weights"] == [1, 0]
    assert any("never visited" in warning for warning in rows["hmc_one_mode"]["warnings"])
    assert {"paper_ess_per_step_vs_hmc", "bulk_ess_per_gradient_vs_hmc"} <= results["ratios"].keys()
    for name in (
        "config.json",
        "kernel.safetensors",
        "training.png",
        "autocorrelation.png",
        "chains.png",
    ):
        assert (out / name).stat().st_size > 100
    assert json.loads((out / "config.json").read_text())["num_leapfrogs"] == 3

    import xarray as xr

    tree = xr.open_datatree(out / "draws.zarr", engine="zarr", consolidated=False)
    assert tree["posterior"]["x"].shape == (8, 40, 2)
    assert np.isfinite(tree["sample_stats"]["lp"].values).all()
    tree.close()

    assert "accept" in result.stderr
    assert "s left" in result.stderr
    again = here("run", "mog", *TINY, "--out", out)
    assert again.exit_code == 2, again.output
    assert "already holds a run" in again.stderr
    table = here("show", out)
    assert table.exit_code == 0, table.output
    assert "mode weights" in table.stdout
    assert "l2hmc" in table.stdout


def test_sample_runs_a_users_own_density(model, tmp_path):
    out = tmp_path / "own"
    result = process("run", f"{model}:logdensity", "--dim", 3, *TINY, "--float64", "--out", out)
    assert result.returncode == 0, result.stderr
    results = json.loads((out / "results.json").read_text())
    assert results["dtype"] == "float64"
    assert results["samplers"]["l2hmc"]["start"] == "pilot"
    assert results["samplers"]["l2hmc"]["max_abs_z_mean"] is None
    assert (out / "trace.png").exists()


def test_ctrl_c_keeps_what_was_finished(tmp_path):
    out = tmp_path / "run"
    args = ["run", "scg", "--preset", "smoke", "--train-steps", "1000000", "--out", out]
    # Started from a background job, a process inherits SIGINT ignored; a user's terminal does not
    # do that.
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from capriole_lab.cli import main; main()"
    )
    arguments = [sys.executable, "-c", code, *map(str, args)]
    with subprocess.Popen(
        arguments, stderr=subprocess.PIPE, text=True, env=commands.ENVIRONMENT
    ) as run:
        for line in run.stderr:
            if line.startswith("train:"):
                break
        time.sleep(0.5)
        run.send_signal(signal.SIGINT)
        rest = run.stderr.read()
        code = run.wait(timeout=120)
    assert code == 130, rest
    assert "what was finished is in" in rest
    results = json.loads((out / "results.json").read_text())
    assert results["completed"] is False
    assert results["training"]["steps"] >= 250
    assert (out / "kernel.safetensors").stat().st_size > 1000


def test_a_function_that_is_called_as_a_target_has_no_settings_of_it(tmp_path, monkeypatch):
    from capriole.cli import Machines, Options
    from capriole_lab.cli import _run
    from capriole_lab.run import settings_for

    made = []
    monkeypatch.setattr(_run, "_go", lambda prepare, act, out, options: made.append(prepare()))
    (tmp_path / "model.py").write_text("def mog(x):\n    return -(x @ x) / 2\n")
    origin = {
        "command": "sample",
        "function": f"{tmp_path / 'model.py'}:mog",
        "dim": 2,
        "spread": 1.0,
    }
    options = Options(False, None, 10.0, Machines(None, None, None, None))
    asked = {"target": "mog", "preset": "smoke", "seed": 0, "overrides": {}, "options": options}
    _run.start(origin, out=tmp_path / "mine", **asked)
    _run.start({"command": "run"}, out=tmp_path / "theirs", **asked)
    assert [job.settings for _, job, _ in made] == [
        settings_for("", "smoke"),
        settings_for("mog", "smoke"),
    ]
    assert settings_for("", "smoke") != settings_for("mog", "smoke")


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("in the way")
    result = here("run", "scg", *TINY, "--out", tmp_path / "file" / "run")
    assert result.exit_code == 2, result.output
    assert "choose another --out" in result.stderr


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (("run", "scgg"), "did you mean 'scg'"),
        (("run", "scg", "--preset", "huge"), "unknown preset 'huge'"),
        (("run", "nowhere.py:f", "--dim", "2"), "no file nowhere.py"),
        (("run", "nowhere.py:f"), "give the dimension of nowhere.py:f"),
        (("run", "scg", "--dim", "2"), "scg has a dimension and starts of its own"),
        (("show", "nowhere"), "cannot read"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(args, complaint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = here(*args)
    assert result.exit_code == 2, result.output
    assert complaint in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("function", ["vector", "outside", "missing", "not_a_function"])
def test_a_density_that_cannot_work_is_refused_in_one_line(model, tmp_path, function):
    result = here("run", f"{model}:{function}", "--dim", 3, *TINY, "--out", tmp_path / "x")
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "content", ['{"samplers": 3}', "{}", '{"samplers": {"a": null}}', "[" * 1000, "\0"]
)
def test_show_survives_results_of_others(tmp_path, content):
    (tmp_path / "results.json").write_text(content)
    shown = here("show", tmp_path)
    assert shown.exit_code == 2, shown.output
    assert shown.stderr.startswith("error: ")
