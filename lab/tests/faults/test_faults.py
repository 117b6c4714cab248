"""The experiments of `capriole_lab.faults`: cases, counts, and a run that goes on."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from capriole_lab.faults import CASES, _modes, run_modes


@pytest.mark.parametrize("name", CASES)
def test_cases_are_densities_with_labels(name):
    case = CASES[name]
    assert case.weights.sum() == pytest.approx(1)
    for k, centre in enumerate(case.centres):
        assert case.label(centre[None])[0] == k
        assert np.isfinite(case.logdensity(jnp.asarray(centre)))
    grad = jax.grad(case.logdensity)(jnp.full(case.dim, 0.3))
    assert np.isfinite(grad).all()


def test_counts_are_stored_and_a_run_goes_on(tmp_path, monkeypatch):
    asked = []

    def search(case, seed):
        asked.append(seed)
        missed = seed == 1
        return {
            "seed": seed,
            "missed_by_chains": True,
            "missed": missed,
            "silent": missed,
            "false_alarm": False,
            "search": {"num_gradients": 100 * seed},
            "warmup_gradients": 1000,
        }

    monkeypatch.setattr(_modes, "judge_search", search)
    run_modes(["pair-10"], seeds=2, fits=0, out=tmp_path)
    counts = run_modes(["pair-10"], seeds=3, fits=0, out=tmp_path)["pair-10"]
    assert asked == [0, 1, 2]
    assert (counts["searches"], counts["missed_by_search"], counts["silent_searches"]) == (3, 1, 1)
    assert counts["search_gradients"] == 100
    stored = json.loads((tmp_path / "modes-pair-10.json").read_text(encoding="utf-8"))
    assert stored["dim"] == 10
    assert [each["seed"] for each in stored["searches"]] == [0, 1, 2]
    assert stored["versions"]


def test_an_unknown_case_is_named(tmp_path):
    with pytest.raises(ValueError, match="no case 'none': choose from pair-10"):
        run_modes(["none"], seeds=0, fits=0, out=tmp_path)


@pytest.mark.slow
def test_one_search_and_one_fit(tmp_path):
    counts = run_modes(["line-0.01"], seeds=1, fits=1, out=tmp_path)["line-0.01"]
    assert counts["silent_searches"] == counts["silent_fits"] == 0
    assert counts["missed_by_search"] == counts["missed_by_fits"] == 0
