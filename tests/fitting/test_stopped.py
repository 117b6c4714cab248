"""A stop in any stage of `fit` returns what is there: after a signal, a budget, or a callback."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import capriole
from capriole.adaptation import explore
from capriole.diagnostics import ProblemKind
from capriole.fitting import Cost, Kind, NoteKind, _search, search
from capriole.runtime import begin_stage
from stored import BY_NUTS, GAUSSIAN, PLANE, Stored, candidate, exploration, settings

pytestmark = pytest.mark.usefixtures("standard_promotion")

OPTIONS = {"num_chains": 4, "num_draws": 50, "train_steps": 0, "num_warmup_chains": 16}


def normal(x):
    return -jnp.sum(x**2) / 2


class FirstGuess:
    """A proposer of one candidate."""

    name = "first guess"

    def cost(self, context):
        return Cost()

    def propose(self, context):
        return context.with_candidates([candidate(Kind.ROTATION, transition="the kernel")])


class FarTooSlow:
    """A proposer that is stopped, in the loops below it or by a callback."""

    name = "far too slow"

    def cost(self, context):
        return Cost(100, 60.0, 0.0)

    def propose(self, context):
        begin_stage("inside")
        raise KeyboardInterrupt


@pytest.fixture
def warmed_up(monkeypatch):
    """The warm-up is made before: what follows it is tested."""

    def warm_up(key, target, position, settings, progress, budget, partial):
        return exploration(position.shape[0])

    monkeypatch.setattr(_search, "_warm_up", warm_up)


def searched(proposers, **options):
    keys = [None] * 4
    start = jnp.zeros((2, 16))
    return search(keys, PLANE, start, settings(num_chains=4), None, proposers, **options)


def test_a_search_that_is_stopped_chooses_among_what_it_has(warmed_up):
    found = searched([FirstGuess(), FarTooSlow(), FirstGuess()], partial=True)
    assert found.kernel == "the kernel"
    (note,) = found.notes
    assert note.kind is NoteKind.INTERRUPTED
    assert "stopped in the stage 'far too slow'" in note.text
    with pytest.raises(KeyboardInterrupt):
        searched([FirstGuess(), FarTooSlow()])


def test_a_search_without_a_candidate_turns_by_the_warmups_step_size(warmed_up):
    """2 sin(t / 2) = 0.3 turns by 0.301 in a leapfrog: five are about a quarter turn."""
    found = searched([FarTooSlow()], partial=True)
    assert found.chosen == "rotation"
    dynamics = found.kernel.dynamics
    assert int(dynamics.num_leapfrogs) == 5
    np.testing.assert_allclose(dynamics.angle, 5 * 2 * np.arcsin(0.15))


def stop_at(phase, step=0):
    """A callback that returns True in a phase, and the phases that it has seen."""
    seen = []

    def progress(event):
        seen.append(event.phase)
        return event.phase == phase and event.step >= step

    return progress, seen


def test_true_from_the_callback_in_the_search_leaves_draws_and_says_so(warmed_up, monkeypatch):
    progress, seen = stop_at("rotations")
    found = capriole.fit(normal, np.zeros(2), progress=progress, **OPTIONS)
    assert found.tree["posterior"]["x"].shape == (4, 50, 2)
    assert found.verdict.notes[0].kind is NoteKind.INTERRUPTED
    assert ProblemKind.INTERRUPTED in [problem.kind for problem in found.verdict.problems]
    assert found.verdict.chosen == "rotation"
    assert not found.verdict.failed
    assert "compare with NUTS" not in seen
    assert "interrupted" in found.verdict.table()


def test_a_warmup_that_is_stopped_returns_its_windows():
    key = jax.random.key(1)
    start = 3 * jax.random.normal(key, (2, 16))
    whole = explore(key, PLANE, start, num_chains=16, max_windows=1)

    def stop(event):
        if event.phase == "warmup":
            raise KeyboardInterrupt

    part = explore(key, PLANE, start, num_chains=16, progress=stop, partial=True)
    assert whole.completed
    assert not part.completed
    assert part.num_windows == 1
    assert part.fisher is None
    np.testing.assert_array_equal(part.position, whole.position)
    with pytest.raises(KeyboardInterrupt):
        explore(key, PLANE, start, num_chains=16, progress=stop)


def test_a_stop_before_the_draws_makes_some(monkeypatch):
    progress, seen = stop_at("final warmup")
    found = capriole.fit(
        GAUSSIAN, np.zeros(3), resume=Stored(), progress=progress, **OPTIONS | {"num_chains": 8}
    )
    assert found.tree["posterior"]["x"].shape == (8, 50, 3)
    assert ProblemKind.INTERRUPTED in [problem.kind for problem in found.verdict.problems]
    assert seen.count("sample") >= 1


def test_a_stop_before_the_draws_of_nuts_makes_some_of_the_kernel(monkeypatch):
    def stop(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("capriole.fitting._final_run.draw_nuts", stop)
    found = capriole.fit(
        GAUSSIAN, np.zeros(3), resume=Stored(**BY_NUTS), **OPTIONS | {"num_chains": 8}
    )
    assert found.verdict.chosen == "rotation"
    assert found.tree["posterior"]["x"].shape == (8, 50, 3)
    assert ProblemKind.INTERRUPTED in [problem.kind for problem in found.verdict.problems]


def test_a_budget_that_is_too_short_for_anything_is_a_timeout():
    with pytest.raises(TimeoutError, match=r"time_budget=0.001 s ended before the first window"):
        capriole.fit(normal, np.zeros(2), time_budget=1e-3, **OPTIONS)


def test_a_budget_ends_the_draws():
    found = capriole.fit(
        GAUSSIAN,
        np.zeros(3),
        resume=Stored(),
        time_budget=3.0,
        **OPTIONS | {"num_chains": 8, "num_draws": 10**7, "compare": False},
    )
    (problem,) = [p for p in found.verdict.problems if p.kind is ProblemKind.INTERRUPTED]
    assert "of 10000000 draws per chain" in str(problem)
    assert found.tree["posterior"]["x"].shape[1] >= 8


@pytest.mark.parametrize("budget", [0, -1.0, float("nan")])
def test_a_budget_is_positive(budget):
    with pytest.raises(ValueError, match="time_budget must be a positive number of seconds"):
        capriole.fit(normal, np.zeros(2), time_budget=budget, **OPTIONS)


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["warmup", "rotations", "measuring NUTS", "final warmup"])
def test_a_stop_in_any_stage_returns_draws_that_pass(phase):
    def ring(x):
        return -jnp.sum(x**2) / 2 - 0.1 * jnp.sum(x[1:] - x[:-1] ** 2) ** 2

    progress, seen = stop_at(phase, step=1 if phase == "warmup" else 0)
    found = capriole.fit(ring, np.zeros(4), progress=progress, num_draws=300, train_steps=0)
    assert ProblemKind.INTERRUPTED in [problem.kind for problem in found.verdict.problems] or (
        phase not in seen
    )
    assert not found.verdict.failed, found.verdict.table()
