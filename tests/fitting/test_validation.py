"""Candidates measured again in a long run: what sticks there, or has faults, gives way."""

from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from capriole.diagnostics import LEVELS, Marginal, ProblemKind
from capriole.fitting import (
    Account,
    Addition,
    Cost,
    Kind,
    NoteKind,
    Stream,
    _evaluation,
    choose,
    validate_best,
)
from capriole.fitting._evaluation import revalidated
from capriole.fitting.proposers import _nuts
from capriole.fitting.proposers._long_runs import worth_a_visit
from capriole.sampling import Record
from stored import PLANE, candidate, context, exploration, metrics, peer

PLACES = np.zeros((2, 32))
SMALL, LARGE = Kind.SMALL_NETWORK, Kind.LARGER_NETWORK
LONG_RUN = {
    "rotation": 0.19,
    "small network": 0.1,
    "larger network": 0.3,
    "small network and HMC": 0.15,
}
"""What each candidate gives in a long run."""


@pytest.fixture
def chosen(monkeypatch):
    """Candidates of a kind, with a rate, as validated; and notes."""

    def again(key, c, dispersed_starts, marginals, *, num_draws, is_multimodal):
        return replace(c, metrics=metrics(LONG_RUN[c.name]))

    monkeypatch.setattr(_evaluation, "revalidated", again)
    monkeypatch.setattr(
        _evaluation,
        "with_small_steps",
        lambda c, step_size, account: c.with_addition(Addition.HMC, account=account),
    )

    def validate(*measured):
        made = [candidate(kind, rate, additions=tuple(more)) for kind, rate, *more in measured]
        after = validate_best(context(made), Stream.VALIDATE_ALL, PLACES)
        return {c.name: c.worst for c in after.candidates}, after.notes

    return validate


def test_a_network_that_sticks_in_the_long_run_gives_way(chosen):
    """Measured 0.4 in a short run and 0.1 in a long one, against 0.2 without networks."""
    found, (note,) = chosen((Kind.ROTATION, 0.2), (SMALL, 0.4))
    assert found == {"rotation": 0.19, "small network": 0.1, "small network and HMC": 0.15}, (
        "whoever takes its place is run again too, and what lost half of its figure is with small "
        "steps"
    )
    assert note.kind is NoteKind.SHORT_RUN
    assert note.text == (
        "the small network gave 0.4 effective draws per gradient in a short run, 0.1 in a long one"
    )


def test_small_steps_are_mixed_in_once(chosen):
    found, _ = chosen((Kind.ROTATION, 0.2), (SMALL, 0.4), (SMALL, 0.15, Addition.HMC))
    assert list(found) == ["rotation", "small network", "small network and HMC"]


def test_a_network_that_keeps_its_figure_stays(chosen):
    found = chosen((Kind.ROTATION, 0.2), (LARGE, 0.35))
    assert found == ({"rotation": 0.2, "larger network": 0.3}, ())


def test_only_the_best_is_run_again(chosen):
    assert chosen((Kind.ROTATION, 0.5), (SMALL, 0.4))[0]["small network"] == 0.4


@pytest.mark.parametrize("stuck", [False, True])
def test_a_kernel_that_would_fail_in_its_final_run_gives_way(monkeypatch, stuck):
    """The profile says N(0, 1); one kernel has draws of a normal cut off at its end, or a chain
    that stands still.
    """
    marginals = (Marginal(1, tuple(norm.ppf(LEVELS).tolist())),)
    profile = SimpleNamespace(parents=(1,), marginals=lambda: marginals)
    whole = np.random.default_rng(0).normal(size=(16, 1000, 2))
    cut = whole if stuck else np.clip(whole, None, norm.ppf(LEVELS[-1]))
    runs = {  # rate, draws, whether a chain stands still
        "network": (0.3, cut, stuck),
        "network and HMC": (0.2, whole, False),
        "rotation": (0.1, whole, False),
        "finer": (0.25, cut, stuck),
        "finer again": (0.15, whole, False),
    }

    def kernel(name):
        return SimpleNamespace(name=name, target=PLANE)

    def run(key, transition, start, *, num_draws, num_warmup):
        rate, draws, still = runs[transition.name]
        figures = np.ones((12, 16, 1000), int)
        figures[Record._fields.index("nonfinite")] = figures[Record._fields.index("diverging")] = 0
        if still:
            figures[Record._fields.index("accepted"), 3, 100:300] = 0
        return metrics(rate), Record(*figures)._replace(position=draws)

    def small(c, step_size, account):
        added = {"transition": kernel("network and HMC"), "account": account}
        return c.with_addition(Addition.HMC, **added)

    def finer(c, account):
        if Addition.FINER_STEPS in c.additions:
            return replace(c, transition=kernel("finer again"))
        return c.with_addition(Addition.FINER_STEPS, transition=kernel("finer"), account=account)

    monkeypatch.setattr(_evaluation, "evaluate_with_record", run)
    monkeypatch.setattr(_evaluation, "with_small_steps", small)
    monkeypatch.setattr(_evaluation, "with_finer_steps", finer)
    measured = [
        candidate(Kind.ROTATION, 0.1, kernel("rotation")),
        candidate(SMALL, 0.3, kernel("network")),
    ]
    known = context(measured, warmup=exploration(profile=profile))
    after = validate_best(known, Stream.VALIDATE_ALL, PLACES)
    assert {c.transition.name: len(c.faults) for c in after.candidates} == {
        "rotation": 0,
        "network": 1,
        "network and HMC": 0,
        "finer again": 0,
    }
    (fault,) = after.candidates[1].faults
    assert fault.kind is (ProblemKind.STUCK if stuck else ProblemKind.TAIL_MISSED)
    rows = [c.report(known.budget.common.cost) for c in after.candidates]
    assert [row.reach for row in rows] == [1, 0, 1, 1]
    assert choose(rows, "gradients").name == "small network and HMC"
    assert choose(rows[1:2], "gradients").name == "small network", "if there is nothing else"
    assert after.budget.total.num_gradients == 3 * 110, "in accounts of its own: HMC, finer, again"
    unknown = revalidated(jax.random.key(2), measured[1], np.zeros((2, 16)), ())
    assert len(unknown.faults) == stuck


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        ((0.02, 0.015, 0.013, 0.012, 0.005, 0.001), 0.005),  # until it is below one in a hundred
        ((0.02, 0.03, 0.015, 0.02, 0.001), 0.02),  # while it helps, after two rungs
        ((0.005, 0.001), None),  # not needed
    ],
)
def test_proposals_that_are_not_finite_get_finer_steps_while_that_helps(
    monkeypatch, shares, expected
):
    """A rung of the ladder of lengths for each share of proposals that are not finite."""
    rungs = list(shares)

    def again(key, c, dispersed_starts, marginals, **_):
        return replace(c, metrics=metrics(0.1)._replace(nonfinite=rungs.pop(0)))

    def finer(c, account):
        if Addition.FINER_STEPS in c.additions:
            return c
        return c.with_addition(Addition.FINER_STEPS, account=account)

    def small(c, step_size, account):
        return c.with_addition(Addition.HMC, account=account)

    monkeypatch.setattr(_evaluation, "revalidated", again)
    monkeypatch.setattr(_evaluation, "with_finer_steps", finer)
    monkeypatch.setattr(_evaluation, "with_small_steps", small)
    made = candidate(Kind.ROTATION, 0.09, additions=(Addition.HMC,))
    known = context([made])
    validator = _evaluation._Validator(known, jax.random.key(0), PLACES, max_rungs=8)
    again_, others = validator.measured_again(made)
    assert again_.metrics.nonfinite == shares[0]
    assert [c.metrics.nonfinite for c in others] == ([] if expected is None else [expected])
    if expected is None:
        return
    rungs[:] = 0.02, 0.02, 0.001  # itself, with small steps, finer
    finest, others = validator.measured_again(others[0])
    assert finest.metrics.nonfinite == 0.001, "one in finer steps climbs on itself"


def test_a_far_end_that_holds_chains_counts_against_a_candidate(monkeypatch):
    draws = np.random.default_rng(0).normal(size=(16, 1000, 2))
    fields = {name: np.zeros((16, 1000), int) for name in Record._fields}
    rates = np.full((16, 1000), 0.8)
    rates[:, 1:][draws[:, :-1, 0] > 2.5] = 0.1
    fields |= {"position": draws, "acceptance_rate": rates, "accepted": np.ones((16, 1000), int)}
    record = Record(**fields)
    monkeypatch.setattr(_evaluation, "evaluate_with_record", lambda *_, **__: (metrics(1), record))
    made = candidate(Kind.ROTATION, 0.3, SimpleNamespace(target=PLANE))
    found = revalidated(jax.random.key(0), made, np.zeros((2, 16)), ())
    (fault,) = found.faults
    assert fault.kind is ProblemKind.TAIL_STICKY
    assert found.reach == fault.reach < 0.2
    found = revalidated(jax.random.key(0), made, np.zeros((2, 16)), (), is_multimodal=True)
    assert (found.faults, found.reach) == ((), 1.0), "a narrow mode may be there"


def test_nuts_is_held_against_the_marginals_too(monkeypatch):
    position = np.abs(np.random.default_rng(0).normal(size=(8, 300, 2)))
    monkeypatch.setattr(_nuts, "draw_nuts", lambda *args, **_: peer(position))
    marginal = Marginal(1, (0.6, *norm.ppf(LEVELS[1:]).tolist()))
    for marginals, reach in (((marginal,), 0), ((), 1)):
        account, key = Account(), jax.random.key(0)
        found = _nuts.measure_nuts(key, PLANE, jnp.zeros((2, 8)), marginals, account)
        row = found.report(Cost(7, 7.0, 7.0))
        assert row.reach == reach, "never below"
        assert account.cost.num_gradients == row.measured_gradients == 100 + 10 * 8 * 300
        assert (row.fixed_gradients, row.fixed_seconds) == (100, 1.5), "nothing of the search's"


@pytest.mark.parametrize("then", ["mixes", "does not", "raises"])
@pytest.mark.parametrize("has_float64", [True, False])
def test_nuts_that_has_not_mixed_is_measured_again(monkeypatch, then, has_float64):
    """Longer, with another key and in float64, if the log density can be had in it."""
    noise, asked = np.random.default_rng(0).normal(size=(8, 1200, 2)), []
    apart = noise + np.arange(8)[:, None, None]

    def draw(key, target, starts, *, num_draws):
        asked.append((jax.random.key_data(key).tolist(), str(starts.dtype), num_draws))
        if len(asked) > 1 and starts.dtype == np.float64 and not has_float64:
            raise ValueError("the log density is float32 at float64 starts")
        if len(asked) > 1 and then == "raises":
            raise FloatingPointError("too far out")
        is_mixed = len(asked) > 1 and then == "mixes"
        return peer((noise if is_mixed else apart)[:, :num_draws])

    monkeypatch.setattr(_nuts, "draw_nuts", draw)
    account, starts = Account(), jnp.zeros((2, 8), jnp.float32)
    found = _nuts.measure_nuts(jax.random.key(0), PLANE, starts, (), account)
    precisions = ["float32", "float64"] + ["float32"] * (not has_float64)
    assert [dtype for _, dtype, _ in asked] == precisions
    assert [num for *_, num in asked] == [300] + [1200] * (len(asked) - 1)
    assert asked[0][0] != asked[1][0], "another key"
    assert (found.metrics.rhat_max < 1.05) == (then == "mixes")
    draws = 300 + (0 if then == "raises" else 1200)
    paid = 100 * (1 if then == "raises" else 2) + 10 * 8 * draws
    assert found.metrics.spent_gradients == account.cost.num_gradients == paid
    asked.clear()
    _nuts.measure_nuts(jax.random.key(0), PLANE, starts, (), Account(), retry=False)
    assert len(asked) == 1


def test_places_that_a_kernel_ran_away_to_are_not_visited():
    warmup = exploration()
    far = [[1e3, 1e200, np.nan], [0.0, 1e200, 0.0]]
    positions = np.concatenate([np.asarray(warmup.position), far], axis=1)
    kept = worth_a_visit(PLANE, positions, warmup)
    np.testing.assert_array_equal(kept, np.asarray(warmup.position))
