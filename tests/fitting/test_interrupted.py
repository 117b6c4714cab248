"""Ctrl-C while draws are made or NUTS is compared: the draws that are there are returned."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import capriole
from capriole.diagnostics import ProblemKind, not_mixed
from capriole.fitting import InMemory, KernelSampler, NoteKind, NutsSampler, _api, run_until_mixed
from capriole.kernels import Rotation, Transition
from stored import BY_NUTS, GAUSSIAN, PLANE, Stored, peer, quick_nuts

pytestmark = pytest.mark.usefixtures("standard_promotion")

OPTIONS = {"seed": 3, "num_chains": 8, "train_steps": 0, "on_failure": "ignore"}


def fit(keeper=None, **options):
    keeper = Stored() if keeper is None else keeper
    return capriole.fit(GAUSSIAN, np.zeros(3), resume=keeper, **OPTIONS | options)


def stop(*args, **options):
    raise KeyboardInterrupt


@pytest.mark.parametrize("moment", ["with_nuts", "NutsSampler"])
def test_ctrl_c_while_nuts_is_asked_leaves_the_draws(monkeypatch, moment):
    quick_nuts(monkeypatch)
    if moment == "NutsSampler":
        monkeypatch.setattr(_api, "_kernel_problems", lambda *args: [not_mixed(1.3, 1.01)])
    monkeypatch.setattr(_api, moment, stop)
    found = fit(num_draws=300)
    assert found.tree["posterior"]["x"].shape == (8, 300, 3)
    assert (found.verdict.nuts is None) == (moment == "with_nuts"), "what was measured stays"
    assert found.verdict.notes[-1].kind is NoteKind.INTERRUPTED
    words = {"with_nuts": "while NUTS was measured", "NutsSampler": "while another sampler drew"}
    assert words[moment] in found.verdict.notes[-1].text
    assert found.verdict.failed == (moment == "NutsSampler")


@pytest.mark.parametrize("moment", ["with_nuts", "NutsSampler"])
def test_a_run_that_can_go_on_raises_it(monkeypatch, moment):
    class Resumable(Stored):
        resumable = True

    quick_nuts(monkeypatch)
    monkeypatch.setattr(_api, "_kernel_problems", lambda *args: [not_mixed(1.3, 1.01)])
    monkeypatch.setattr(_api, moment, stop)
    with pytest.raises(KeyboardInterrupt):
        fit(Resumable(), num_draws=300)


@pytest.mark.parametrize(("chunks", "kept"), [(0, 1), (1, 1), (3, 4)])
def test_ctrl_c_in_a_longer_pass_leaves_what_has_more_steps(chunks, kept):
    """1,000 draws of chains too slow to mix, then four times as many steps, interrupted after some
    chunks of 400.
    """
    kernel = Transition(PLANE, Rotation(jnp.asarray(0.05), jnp.asarray(1)))
    done = []

    def stop(event):
        done.append(event.phase)
        if event.phase == "sample 1 in 4" and done.count(event.phase) == chunks:
            raise KeyboardInterrupt

    class Stopped(InMemory):
        def draws(self, point, key, kernel, **options):
            if point.round == 1 and not chunks:
                raise KeyboardInterrupt
            return super().draws(point, key, kernel, **options)

    start = 3 * jax.random.normal(jax.random.key(1), (2, 4))
    sampler = KernelSampler(jax.random.key(0), kernel, start, 1000, Stopped(), stop, ())
    final = run_until_mixed(sampler)
    assert not final.completed
    assert final.thin == kept
    assert final.num_steps == (1000 if kept == 1 else 1200)


def test_a_run_that_is_interrupted_is_no_failure_and_waits_for_nothing(monkeypatch):
    monkeypatch.setattr(_api, "with_nuts", None)
    monkeypatch.setattr(_api, "NutsSampler", None)

    def stop(event):
        if event.phase == "sample" and event.step >= 400:
            raise KeyboardInterrupt

    found = fit(num_draws=10_000, progress=stop)
    assert found.tree["posterior"].attrs["completed"] == 0
    assert found.tree["posterior"]["x"].shape == (8, 400, 3)
    (problem,) = [p for p in found.verdict.problems if p.kind is ProblemKind.INTERRUPTED]
    assert str(problem) == "interrupted after 400 of 10000 draws per chain"
    assert not problem.is_fatal
    assert found.verdict.chosen == "rotation"
    assert found.verdict.settings["comparison"]["num_gradients"] == 0


def stopped_in_the_second_pass(key, target, starts, *, num_draws, **_):
    """Chains of NUTS that do not meet in the first pass."""
    if num_draws > 300:
        raise KeyboardInterrupt
    max_separation = np.arange(starts.shape[1])[:, None, None]
    rng = np.random.default_rng(0)
    return peer(max_separation + rng.normal(size=(starts.shape[1], num_draws, starts.shape[0])))


def test_ctrl_c_in_a_longer_pass_of_nuts_leaves_the_one_before_and_is_said(monkeypatch):
    monkeypatch.setattr("capriole.fitting._final_run.draw_nuts", stopped_in_the_second_pass)
    found = fit(Stored(**BY_NUTS), num_draws=300)
    assert found.tree["posterior"].attrs["completed"] == 0
    assert found.tree["posterior"]["x"].shape == (8, 300, 3)
    assert found.verdict.settings["thin"] == 1
    assert found.verdict.chosen == "NUTS", "who pressed Ctrl-C waits for nobody to draw instead"
    assert ProblemKind.INTERRUPTED in [problem.kind for problem in found.verdict.problems]


@pytest.mark.parametrize("resumable", [False, True])
def test_ctrl_c_in_a_longer_pass_of_nuts_is_raised_where_a_run_can_go_on(monkeypatch, resumable):
    monkeypatch.setattr("capriole.fitting._final_run.draw_nuts", stopped_in_the_second_pass)
    starts = jnp.zeros((3, 8))
    options = {"resumable": resumable}
    sampler = NutsSampler(jax.random.key(0), GAUSSIAN, starts, 300, (), **options)
    if resumable:
        with pytest.raises(KeyboardInterrupt):
            run_until_mixed(sampler)
    else:
        assert not run_until_mixed(sampler).completed
