"""``capriole.fit`` end to end, on targets small enough for every commit."""

from types import SimpleNamespace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

import capriole
from capriole import AbstractLogDensity, PerChain
from capriole.adaptation import Profile, explore
from capriole.coordinates import Whitened, Whitening, identity
from capriole.diagnostics import FITTED, Modes
from capriole.diagnostics._statistics import z_scores
from capriole.fitting import Marginal, Row, _search
from capriole.fitting import _api as _fit
from capriole.fitting import _reference_check as _seen
from capriole.fitting import _validation as _confirm
from capriole.fitting._candidate import Candidate
from capriole.fitting._evaluation import Judgement
from capriole.fitting._final_run import InMemory, final_run
from capriole.fitting._tail_coverage import LEVELS
from capriole.fitting._verdict import RATES
from capriole.fitting.proposers import _networks as _training
from capriole.fitting.proposers import _nuts, _rotations
from capriole.fitting.proposers._networks import (
    MOST_MOVED,
    Plan,
    plans,
    train_candidate,
    with_finer_steps,
    with_small_steps,
)
from capriole.fitting.proposers._rotations import rotations, smoothed_best
from capriole.fitting.proposers._transport import Elsewhere, transported
from capriole.kernels import CrankNicolson, Mixture, Rotation, Transition
from capriole.sampling import PeerDraws, Record
from capriole_lab.targets import Funnel, make_target

pytestmark = pytest.mark.usefixtures("standard_promotion")

SCALE = jnp.array([1.0, 30.0, 0.02])


def logdensity(p):
    x = jnp.concatenate([p["a"][None], p["b"]])
    return -jnp.sum((x / SCALE) ** 2) / 2


INIT = {"a": 0.0, "b": np.zeros(2)}


@pytest.fixture(scope="module")
def fitted():
    with jax.numpy_dtype_promotion("standard"):
        return capriole.fit(logdensity, INIT, seed=3, num_chains=16, num_draws=500)


def test_draws_are_the_users_variables_and_have_its_moments(fitted):
    posterior = fitted.tree["posterior"]
    assert posterior["a"].shape == (16, 500)
    assert posterior["b"].shape == (16, 500, 2)
    draws = np.concatenate([posterior["a"].values[..., None], posterior["b"].values], axis=-1)
    for z in z_scores(draws, np.zeros(3), np.asarray(SCALE) ** 2):
        assert np.abs(z).max() < 5


def test_the_verdict_beats_nuts_on_a_gaussian_and_says_what_it_cost(fitted):
    verdict = fitted.verdict
    assert not verdict.failed, verdict.problems
    assert verdict.row(verdict.chosen).worst > 2 * verdict.nuts.worst
    paid = (
        verdict.settings["preparation"]["num_gradients"]
        + verdict.settings["warmup"]["num_gradients"]
    )
    assert verdict.row(verdict.chosen).fixed_gradients == paid
    assert verdict.row(verdict.chosen).worst <= min(
        verdict.settings["final"][name] for name in RATES[:2]
    )
    assert verdict.break_even("gradients") is not None
    assert fitted.tree["posterior"].attrs["sampler"] == verdict.chosen
    assert "times NUTS's effective draws" in fitted.tree["posterior"].attrs["verdict"]


class Watched(AbstractLogDensity):
    """A Gaussian that counts the positions at which it is evaluated."""

    count: list = eqx.field(static=True)

    def __call__(self, position):
        jax.debug.callback(self.count.append, jnp.asarray(position[0].size))
        return -jnp.sum(position**2, axis=0) / 2


def test_the_gradients_of_a_whole_fit_are_those_that_were_computed():
    seen = []
    options = {"seed": 0, "num_chains": 8, "num_draws": 100, "train_steps": 0}
    verdict = capriole.fit(Watched(seen), np.zeros(2), compare=False, **options).verdict
    jax.effects_barrier()
    settings = verdict.settings
    told = (
        settings["preparation"]["num_gradients"]
        + settings["warmup"]["num_gradients"]
        + settings["final"]["num_gradients"]
    )
    checks = sum(int(size) for size in seen) - told
    assert 0 <= checks < 0.01 * told, "but for those of the first checks and of starts"


def test_no_network_is_trained_where_none_can_pay(fitted):
    assert fitted.verdict.row("small network") is None
    assert "no network was trained" in fitted.verdict.settings["notes"][0]


def test_the_fitted_kernel_can_be_saved_loaded_and_sampled_again(fitted, tmp_path):
    path = capriole.save(tmp_path / "kernel.safetensors", fitted.transition, dim=3)
    again = capriole.load(path, logdensity, INIT)
    assert isinstance(again.target, Whitened)
    trees = [
        capriole.sample(kernel, INIT, num_chains=4, num_draws=20, seed=5)
        for kernel in (fitted.transition, again)
    ]
    np.testing.assert_array_equal(
        trees[0]["posterior"]["b"].values, trees[1]["posterior"]["b"].values
    )
    with pytest.raises(capriole.KernelFileError, match="another log density"):
        capriole.load(path, lambda p: 2 * logdensity(p), INIT)


@pytest.fixture(scope="module")
def unfolded():
    with jax.numpy_dtype_promotion("standard"):
        return capriole.fit(Funnel(dim=5), seed=0, train_steps=0, num_draws=500, compare=False)


def test_a_funnel_is_sampled_in_the_coordinates_of_a_transport_map(unfolded):
    verdict = unfolded.verdict
    assert not verdict.failed, verdict.problems
    assert verdict.chosen.startswith("transported")
    assert verdict.row(verdict.chosen).worst > 10 * verdict.row("rotation").worst
    assert any("dimension 0 as parent" in note for note in verdict.settings["notes"])
    neck = unfolded.tree["posterior"]["x"].values[..., 0]
    for z in z_scores(neck[..., None], np.zeros(1), np.full(1, 9.0)):
        assert np.abs(z).max() < 5


def test_the_log_densities_of_draws_are_the_users_in_any_coordinates(unfolded):
    """In those of the map they have its Jacobian."""
    draws = jnp.asarray(np.moveaxis(unfolded.tree["posterior"]["x"].values, 2, 0))
    lp = unfolded.tree["sample_stats"]["lp"].values
    np.testing.assert_allclose(lp, Funnel(dim=5)(draws), rtol=1e-6, atol=1e-6)
    again = capriole.sample(unfolded.transition, num_chains=4, num_draws=20, seed=5)
    draws = jnp.asarray(np.moveaxis(again["posterior"]["x"].values, 2, 0))
    np.testing.assert_allclose(
        again["sample_stats"]["lp"].values, Funnel(dim=5)(draws), rtol=1e-6, atol=1e-6
    )


def test_a_transported_kernel_can_be_saved_and_loaded(unfolded, tmp_path):
    path = capriole.save(tmp_path / "kernel.safetensors", unfolded.transition, dim=5)
    again = capriole.load(path, Funnel(dim=5))
    options = {"num_chains": 4, "num_draws": 20, "seed": 5}
    trees = [capriole.sample(kernel, **options) for kernel in (unfolded.transition, again)]
    np.testing.assert_array_equal(
        trees[0]["posterior"]["x"].values, trees[1]["posterior"]["x"].values
    )


def test_a_funnels_parent_is_explored_by_its_marginal():
    target = Funnel(dim=5)
    pilot = explore(jax.random.key(0), target, target.start(jax.random.key(1), 64))
    before = pilot.num_gradients
    found = transported(jax.random.key(2), target, pilot)
    assert found.pilot.profile.parents == (0,)
    assert found.pilot.num_gradients > before
    (marginal,) = Marginal.read(_search._facts(found.pilot)["marginals"], dim=5)
    np.testing.assert_allclose(marginal.quantiles, 3 * norm.ppf(LEVELS), atol=0.05)
    best = max(found.candidates, key=lambda c: c.judgement.worst)
    assert best.judgement.worst > 0.3


@pytest.mark.parametrize("missed", [False, True])
def test_draws_that_miss_an_end_of_a_marginal_fail(monkeypatch, missed):
    """scg's first dimension has deviation 7.1; a marginal with an end further out is what the
    chains miss.
    """
    end = -60.0 if missed else norm.ppf(0.03) * np.sqrt(50.05)
    quantiles = [float(norm.ppf(level) * np.sqrt(50.05)) for level in LEVELS]
    quantiles[LEVELS.index(0.03)] = end
    monkeypatch.setattr(
        _seen, "marginals", lambda profile: [{"dimension": 0, "quantiles": quantiles}]
    )
    verdict = capriole.fit(
        make_target("scg"), seed=1, num_chains=8, train_steps=0, compare=False
    ).verdict
    assert verdict.failed == missed
    assert ("along a funnel" in verdict.recommendation()) == missed
    assert verdict.settings["thin"] == (16 if missed else 1)


def test_networks_are_for_tens_of_dimensions_not_for_hundreds():
    judgement = Judgement(0.1, 0.1, 1.0, 0.9, 1.0, 0.0, 100, 110, 1.0, 0.0)
    best = Candidate("rotation", None, judgement, 3)

    def left_out(dim, agreed):
        found = plans(dim=dim, best=best, angle=1.0, agreed=agreed, step_size=0.3, num_steps=3000)
        return [plan.name for plan in found if plan.moved(dim) > MOST_MOVED]

    assert left_out(10, True) == left_out(10, False) == left_out(50, True) == []
    assert left_out(203, True) == ["small network", "larger network"]
    assert left_out(203, False) == ["small network", "network for tails", "network for modes"]


def test_small_steps_take_a_fifth_of_the_gradients():
    kernel = Transition(make_target("scg"), Rotation(jnp.asarray(1.0), jnp.asarray(9)))
    judgement = Judgement(0.1, 0.1, 1.0, 0.9, 1.0, 0.0, 100, 110, 1.0, 0.0)
    mixed = with_small_steps(Candidate("rotation", kernel, judgement, 9, num_gradients=70), 0.3)
    (one, other), (share, rest) = mixed.transition.transitions, mixed.transition.probabilities
    steps = rest * other.transition.dynamics.num_leapfrogs
    np.testing.assert_allclose(steps / (steps + share * 9), 0.2)
    assert one is kernel
    assert (mixed.name, mixed.num_gradients, mixed.shared_gradients) == ("rotation and HMC", 0, 70)


def test_finer_steps_are_of_the_same_rotation():
    target = make_target("scg")
    kernel = Transition(target, Rotation(jnp.asarray([1.0, 1.2]), jnp.asarray(9)))
    judgement = Judgement(0.1, 0.1, 1.0, 0.9, 1.0, 0.0, 100, 110, 1.0, 0.0)
    once = with_finer_steps(Candidate("rotation", kernel, judgement, 9, num_gradients=70))
    assert (once.name, once.num_leapfrogs, int(once.transition.dynamics.num_leapfrogs)) == (
        "rotation in finer steps",
        14,
        14,
    )
    assert (once.num_gradients, once.shared_gradients) == (0, 70)
    np.testing.assert_array_equal(once.transition.dynamics.angle, kernel.dynamics.angle)
    twice = with_finer_steps(once._replace(num_gradients=5))
    assert (twice.name, twice.num_leapfrogs, twice.num_gradients) == (once.name, 21, 5)
    mixed = Candidate(
        "mixture",
        Mixture((kernel, Transition(target, CrankNicolson(jnp.asarray(1.0)))), (0.5, 0.5)),
        judgement,
        9,
    )
    assert int(with_finer_steps(mixed).transition.transitions[0].dynamics.num_leapfrogs) == 14
    learned = Transition(
        target, capriole.kernels.learned_leapfrog(jax.random.key(0), dim=2, num_leapfrogs=2)
    )
    assert with_finer_steps(Candidate("network", learned, judgement, 2)) is None


def test_what_a_transport_map_that_is_left_cost_counts(monkeypatch):
    target = make_target("scg")
    pilot = explore(jax.random.key(0), target, target.start(jax.random.key(1), 16), max_windows=1)
    judgement = Judgement(0.1, 0.1, 1.0, 0.9, 1.0, 0.0, 100, 110, 1.0, 0.0)
    found = [Candidate("rotation", None, judgement, 1, num_gradients=7)]
    tried = [Candidate("transported rotation", None, judgement, 1, num_gradients=30)]
    known = Profile((0,), np.zeros((1, 1)), np.ones(1), np.ones(1), np.zeros((1, 1, 2)))
    there = Elsewhere(
        pilot._replace(num_gradients=pilot.num_gradients + 400, profile=known), tried, 1.0, (0,)
    )
    monkeypatch.setattr(_search, "transported", lambda *args: there)
    monkeypatch.setattr(_search, "confirmed", lambda key, candidates, *args: candidates)
    notes = []
    kept, after = _search._or_transported(None, target, found, pilot, notes, "gradients", None)
    assert kept is found
    assert after == pilot._replace(num_gradients=pilot.num_gradients + 430, profile=known)
    assert "tried and left" in notes[0]


def test_more_leapfrogs_are_tried_where_few_do_badly(monkeypatch):
    monkeypatch.setattr(_rotations, "_HARD", 10.0)
    monkeypatch.setattr(_rotations, "GOOD_ENOUGH", 10.0)
    target = Whitened(make_target("scg"), identity(2, jnp.zeros(()).dtype))
    found = rotations(
        jax.random.key(0), target, make_target("scg").start(jax.random.key(1), 16), polish=1
    )
    (longer,) = [c for c in found if c.name == "longer rotation"]
    assert longer.num_leapfrogs in _rotations._LONGER
    assert longer.num_gradients > 0


def test_nuts_draws_where_the_kernel_fails_in_its_final_run(monkeypatch):
    monkeypatch.setattr(_fit, "_problems", lambda draws, judgement: ["R-hat is 1.300, above 1.01"])
    options = {"seed": 3, "num_chains": 8, "num_draws": 300, "train_steps": 0}
    given_up = capriole.fit(logdensity, INIT, **options)
    verdict = given_up.verdict
    assert verdict.chosen == "NUTS"
    assert given_up.transition is None
    assert not verdict.failed
    assert (
        "failed in its final run and NUTS drew instead: R-hat is 1.300"
        in verdict.settings["notes"][-1]
    )
    assert verdict.recommendation().startswith(
        "The draws are NUTS's: the rotation failed in its final run"
    )
    draws = given_up.tree["posterior"]["b"].values
    assert np.abs(z_scores(draws, np.zeros(2), np.asarray(SCALE)[1:] ** 2)).max() < 5
    apart = capriole.fit(logdensity, INIT, **options, compare=False)
    assert apart.verdict.failed
    assert apart.transition is not None
    run = apart.verdict.settings
    spent = (
        run["preparation"]["num_gradients"]
        + run["warmup"]["num_gradients"]
        + run["final"]["num_gradients"]
    )
    assert verdict.settings["preparation"]["num_gradients"] == spent, (
        "the run that was given up is paid for, too"
    )


def nuts_wins(rows, criterion):
    """NUTS where it is among the rows, else the first."""
    return next((row.name for row in rows if row.name == "NUTS"), rows[0].name)


@pytest.mark.parametrize("kernel_fails", [False, True])
def test_the_best_candidate_draws_where_nuts_was_chosen_and_fails(
    fitted, monkeypatch, kernel_fails
):
    monkeypatch.setattr(_search, "_sure", lambda *args: False)
    monkeypatch.setattr(_search, "choose", nuts_wins)
    monkeypatch.setattr(_fit, "_nuts_problems", lambda *args: ["R-hat is 1.300, above 1.01"])
    if kernel_fails:
        monkeypatch.setattr(_fit, "_problems", lambda draws, judgement: ["error: this one as well"])
    found = capriole.fit(logdensity, INIT, seed=3, num_chains=8, num_draws=300, train_steps=0)
    assert found.verdict.chosen == "rotation"
    assert found.verdict.failed == kernel_fails
    assert found.transition is not None
    words = "NUTS failed in its final run and the rotation drew instead: R-hat is 1.300"
    assert words in found.verdict.settings["notes"][-1]
    if not kernel_fails:
        assert found.verdict.recommendation().startswith(
            f"The draws are those of the rotation: {words}"
        )
        draws = found.tree["posterior"]["b"].values
        assert np.abs(z_scores(draws, np.zeros(2), np.asarray(SCALE)[1:] ** 2)).max() < 5
        before, spent = (
            f.verdict.settings["preparation"]["num_gradients"] for f in (fitted, found)
        )
        assert spent > before + 8 * 300, "the run that was given up is paid for"


def test_a_place_that_the_pilot_left_makes_nuts_doubtful():
    target = PerChain(lambda x: -jnp.sum(x**2) / 2)
    position = np.random.default_rng(0).normal(size=(8, 500, 2))
    run = PeerDraws(position, 10_000, 100, 1.0, 1.0, 0.5, 0.8, 0, {})

    def problems(**pilot):
        return _fit._nuts_problems(run, 1, target, SimpleNamespace(marginals=[], pilot=pilot))

    assert problems(num_frozen=0, num_left=0) == []
    for name in ("num_frozen", "num_left"):
        (said,) = problems(**{name: 2})
        assert said.startswith("error: chains of the pilot ")
        assert "may all have left a place that holds mass" in said


@pytest.mark.parametrize("moment", ["with_nuts", "nuts_tree"])
def test_ctrl_c_while_nuts_is_asked_leaves_the_draws(monkeypatch, moment):
    def stop(*args, **options):
        raise KeyboardInterrupt

    if moment == "nuts_tree":
        monkeypatch.setattr(
            _fit, "_problems", lambda draws, judgement: ["R-hat is 1.300, above 1.01"]
        )
    monkeypatch.setattr(_fit, moment, stop)
    options = {"seed": 3, "num_chains": 8, "num_draws": 300, "train_steps": 0}
    found = capriole.fit(logdensity, INIT, **options)
    assert found.tree["posterior"]["b"].shape == (8, 300, 2)
    assert found.verdict.nuts is None
    assert "interrupted while NUTS was measured" in found.verdict.settings["notes"][-1]
    assert found.verdict.failed == (moment == "nuts_tree")


@pytest.mark.parametrize(("chunks", "kept"), [(0, 1), (1, 1), (3, 4)])
def test_ctrl_c_in_a_longer_pass_leaves_what_has_more_steps(chunks, kept):
    """1,000 draws of chains too slow to mix, then four times as many steps, interrupted after some
    chunks of 400.
    """
    target = PerChain(lambda x: -jnp.sum(x**2) / 2)
    kernel = Transition(target, Rotation(jnp.asarray(0.05), jnp.asarray(1)))
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
    final = final_run(jax.random.key(0), kernel, start, 1000, Stopped(), stop, marginals=[])
    assert not final.completed
    assert final.thin == kept
    assert final.num_steps == (1000 if kept == 1 else 1200)


def test_a_run_that_is_interrupted_is_no_failure_and_waits_for_nothing(monkeypatch):
    monkeypatch.setattr(_fit, "with_nuts", None)
    monkeypatch.setattr(_fit, "nuts_tree", None)

    def stop(event):
        if event.phase == "sample" and event.step >= 400:
            raise KeyboardInterrupt

    options = {"seed": 3, "num_chains": 8, "train_steps": 0}
    found = capriole.fit(logdensity, INIT, num_draws=10_000, progress=stop, **options)
    assert found.tree["posterior"].attrs["completed"] == 0
    assert found.tree["posterior"]["b"].shape == (8, 400, 2)
    assert "interrupted after 400 of 10000 draws per chain" in found.verdict.problems
    assert found.verdict.chosen == "rotation"
    assert found.verdict.settings["comparison"]["num_gradients"] == 0


def test_nuts_is_held_to_the_rule_on_chains_that_stand_still():
    target, found = PerChain(lambda x: -jnp.sum(x**2) / 2), SimpleNamespace(marginals=[], pilot={})

    def problems(still, thin):
        position = np.random.default_rng(0).normal(size=(8, 1000, 2))
        position[3, 100 : 100 + still] = position[3, 100]
        return _fit._nuts_problems(
            PeerDraws(position, 10_000, 100, 1.0, 1.0, 0.5, 0.8, 0, {}), thin, target, found
        )

    assert problems(190, 1) == []
    words = f"1 of 8 chains rejected 200 proposals in a row, at most 229 of 999: {FITTED.stuck}"
    assert f"error: {words}" in _fit.grave(problems(230, 1))
    assert not any(text.startswith("error: 1 of 8") for text in problems(60, 4)), (
        "240 of 4,000 steps are no fifth"
    )


def test_divergences_of_nuts_are_said(monkeypatch):
    position = np.random.default_rng(0).normal(size=(8, 500, 2))
    target, found = PerChain(lambda x: -jnp.sum(x**2) / 2), SimpleNamespace(marginals=[], pilot={})

    def problems(divergences):
        run = PeerDraws(position, 10_000, 100, 1.0, 1.0, 0.5, 0.8, divergences, {})
        return _fit._nuts_problems(run, 4, target, found)

    assert problems(16) == []  # one in a thousand
    (said,) = problems(17)
    assert said.startswith("17 of 16000 of NUTS's transitions diverged")
    assert _fit.grave([said]) == []


def test_nuts_is_left_out_for_what_is_chosen_only():
    pilot = SimpleNamespace(apart=0.0, agreed=True, modes=Modes(np.zeros(1), np.zeros(1)))
    good = Row("rotation", 1, 0.25, 0.25, 1.0, 0.9, 1.0, 0, 0.0)
    risky, slow = good._replace(nonfinite=0.02), good._replace(name="slow", ess_per_gradient=0.05)
    assert _search._sure([good, slow], pilot, "gradients")
    assert not _search._sure([risky, slow], pilot, "gradients")
    assert not _search._sure([risky], pilot, "gradients")
    assert not _search._sure([good], pilot, "seconds")
    two, one = (Modes(np.arange(n), np.zeros(n)) for n in (2, 1))
    assert _search._sure([slow], SimpleNamespace(apart=100.0, modes=two), "gradients")
    far = SimpleNamespace(apart=100.0, agreed=False, modes=one)
    assert not _search._sure([slow], far, "gradients"), (
        "slow chains in one mode, which NUTS may cross"
    )


def test_nuts_is_no_choice_where_plain_hmc_disagreed_and_a_candidates_chains_met():
    """NUTS in one of two modes: R-hat 1.01, and more effective draws than a network that moves
    between them.
    """
    nuts = Row("NUTS", None, 0.13, 0.13, 1.0, 0.9, 1.01, 0, 0.0)
    network = nuts._replace(name="network for modes", ess_per_gradient=0.02)
    rows, apart = (
        [nuts._replace(name="rotation", rhat_max=1.5), network, nuts],
        SimpleNamespace(agreed=False),
    )
    assert [row.name for row in _search._choices(rows, apart)] == ["rotation", "network for modes"]
    assert _search._choices(rows, SimpleNamespace(agreed=True)) == rows
    stuck = [rows[0], network._replace(rhat_max=1.06), nuts]
    assert _search._choices(stuck, apart) == stuck, "nobody's chains met: NUTS may be right"


@pytest.mark.parametrize(
    "early", [lambda noise: np.cumsum(noise, axis=1), lambda noise: np.minimum(noise, 1.2)]
)
def test_nuts_is_run_longer_while_its_chains_disagree_or_miss_an_end(monkeypatch, early):
    """Chains of a random walk at first, or cut off; draws of a normal in the third run; runs given
    up are paid for.
    """
    lengths, facts = [], [{"dimension": 1, "quantiles": norm.ppf(LEVELS).tolist()}]

    def run(key, target, starts, *, num_draws):
        lengths.append(num_draws)
        noise = np.random.default_rng(len(lengths)).normal(size=(8, num_draws, 2))
        position = noise if len(lengths) == 3 else early(noise)
        return PeerDraws(position, 10 * num_draws, 100, 1.0, 1.0, 0.5, 0.8, 0, {})

    monkeypatch.setattr(_nuts, "_run", run)
    target, starts = PerChain(logdensity), jnp.zeros((2, 8))
    tree, draws, thin = _nuts.nuts_tree(jax.random.key(0), target, starts, facts, num_draws=100)
    assert lengths == [100, 400, 1600]
    assert thin == 16
    assert draws.position.shape == (8, 100, 2)
    assert draws.warmup_gradients == 3 * 100 + 10 * (100 + 400)
    assert draws.num_gradients == tree["posterior"].attrs["num_gradients"] == 16_000


def test_rotations_of_a_white_gaussian_turn_by_a_right_angle():
    target = Whitened(PerChain(lambda x: -jnp.sum(x**2) / 2), identity(4, jnp.zeros(()).dtype))
    found = rotations(jax.random.key(0), target, jax.random.normal(jax.random.key(1), (4, 32)))
    by_name = {candidate.name: candidate for candidate in found}
    assert by_name["rotation"].num_leapfrogs == 1
    assert 1.1 < float(by_name["rotation"].transition.dynamics.angle) < 2
    assert by_name["rotation"].judgement.worst > 0.6
    assert set(by_name) == {"rotation"}, (
        "what costs a compilation is tried only where it may gain something"
    )


def test_a_sharper_whitening_is_kept_where_it_is_better():
    """Scales off by 30 % against exact ones."""
    flat = PerChain(lambda x: -jnp.sum(x**2) / 2)
    dtype = jnp.zeros(()).dtype
    none = jnp.zeros((3, 0)), jnp.zeros(0)
    rough = Whitening(jnp.zeros(3), jnp.array([0.5, 1.0, 1.8]), *none)
    position = rough.inverse(jax.random.normal(jax.random.key(1), (3, 32), dtype))
    found = rotations(
        jax.random.key(0), Whitened(flat, rough), position, sharp=identity(3, dtype), polish=False
    )
    np.testing.assert_array_equal(found[0].transition.target.whitening.scale, np.ones(3))
    assert found[0].judgement.worst > 0.6


def test_the_best_angle_is_read_off_smooth_curves():
    angles = np.geomspace(0.8, 1.6, 8)
    curves = np.stack(
        [np.exp(-((np.log(angles / 1.4)) ** 2)), np.exp(-((np.log(angles / 1.0)) ** 2))], axis=1
    )
    noise = np.exp(0.05 * np.random.default_rng(0).standard_normal(curves.shape))
    angle, value = smoothed_best(angles, curves * noise)
    assert angle == pytest.approx(np.sqrt(1.4), rel=0.06)
    assert value == pytest.approx(np.exp(-(np.log(1.4) ** 2) / 4), rel=0.06)
    assert smoothed_best(angles[:2], np.array([[1.0, 3.0], [2.0, 2.0]])) == (angles[1], 2.0)


def test_a_trained_candidate_is_the_best_that_was_measured():
    dtype = jnp.zeros(()).dtype
    whitening = Whitening(jnp.zeros(2), jnp.array([10.0, 4.0]), jnp.zeros((2, 0)), jnp.zeros(0))
    target = Whitened(make_target("banana"), whitening)
    position = target.whitening.inverse(target.logdensity.sample(jax.random.key(0), 64)).astype(
        dtype
    )
    plan = Plan("small network", 2, 16, (0.8, 0.7), 80)
    found = train_candidate(jax.random.key(1), plan, target, position, step_size=0.2)
    assert found.name == "small network"
    assert found.num_gradients > 0
    assert found.shared_gradients == 0
    assert found.found.shape == position.shape
    assert found.judgement.worst > 0


@pytest.mark.parametrize(
    ("scores", "patient", "to_beat", "kept", "rounds"),
    [
        (
            (0.2, 0.5, 0.3, 0.4, 0.9),
            False,
            0.0,
            1,
            4,
        ),  # two rounds that gain nothing end it; the best is kept
        ((0.2, 0.5, 0.3, 0.4, 0.9), True, 0.0, 4, 5),  # unless the plan is patient
        ((0.2, 0.5, 0.501, 0.8, 0.7), False, 0.0, 3, 5),  # one flat round is no end
        ((0.5, 0.9, 0.9, 0.9, 0.9), False, 0.9, 0, 1),  # hopeless beside what there is
        ((0.5, 0.9, 0.4, 0.4, 0.4), False, 0.8, 1, 4),
    ],
)
def test_training_keeps_the_best_as_measured_and_ends_when_it_gains_nothing(
    monkeypatch, scores, patient, to_beat, kept, rounds
):
    """Training and measuring are scripted: round i makes a kernel of i + 1 leapfrogs that scores
    ``scores[i]``.
    """
    target = Whitened(make_target("scg"), identity(2, jnp.zeros(()).dtype))
    position, made = jnp.zeros((2, 8)), []

    def train(key, transition, position, recipe, **options):
        made.append(Transition(target, Rotation(jnp.asarray(1.0), len(made) + 1)))
        state = SimpleNamespace(position=position + 1)
        return SimpleNamespace(
            transition=made[-1], chains=state, completed=True, num_gradients=1000
        )

    def judge(key, kernel, position):
        figures = (scores[len(made) - 1], 1.0, 1.0, 0.9, 1.0, 0.0, 100, 110, 1.0, 0.0)
        assert position[0, 0] == len(made), "measured where its chains ended"
        return Judgement(*figures)

    monkeypatch.setattr(_training, "train_kernel", train)
    monkeypatch.setattr(_training, "judge", judge)
    plan = Plan("small network", 2, 16, (0.8, 0.7), 50, rounds=5, patient=patient)
    found = train_candidate(
        jax.random.key(1), plan, target, position, step_size=0.2, to_beat=to_beat
    )
    assert found.transition.dynamics.num_leapfrogs == kept + 1
    assert found.judgement.worst == scores[kept]
    assert len(made) == rounds
    assert found.num_gradients == rounds * 1110, "those of rounds that lost, too"


def test_the_best_network_is_tried_with_the_gradient_free_rotation_mixed_in(monkeypatch):
    target = Whitened(make_target("scg"), identity(2, jnp.zeros(()).dtype))
    position = make_target("scg").start(jax.random.key(1), 16)
    pilot = explore(jax.random.key(0), make_target("scg"), position, max_windows=1)
    free = Transition(target, CrankNicolson(jnp.asarray(1.0)))
    slow = Transition(target, Rotation(jnp.asarray(0.1), 2))

    def candidate(name, worst, kernel):
        return Candidate(
            name, kernel, Judgement(worst, worst, 1.0, 0.9, 1.0, 0.0, 100, 110, 1.0, 0.0), 2
        )

    known = [candidate("Crank-Nicolson", 0.1, free), candidate("small network", 1e-9, slow)]
    found = _search._with_mixture(jax.random.key(2), known, pilot)
    names = ["Crank-Nicolson", "small network and Crank-Nicolson", "small network"]
    assert [c.name for c in found] == names, "before the network, since it is better"
    assert found[1].transition.transitions == (slow, free)
    assert (
        found[1].num_gradients
        == found[1].judgement.spent_gradients
        > found[1].judgement.num_gradients
        > 0
    )
    known = [known[0], candidate("small network", 1e9, slow)]
    assert [c.name for c in _search._with_mixture(jax.random.key(2), known, pilot)] == [
        names[0],
        names[2],
        names[1],
    ]
    assert _search._with_mixture(jax.random.key(2), known[:1], pilot) == known[:1]
    elsewhere = Transition(
        Whitened(make_target("scg"), identity(2, jnp.zeros(()).dtype)),
        CrankNicolson(jnp.asarray(1.0)),
    )
    apart = [candidate("Crank-Nicolson", 0.2, elsewhere), known[1]]
    assert _search._with_mixture(jax.random.key(2), apart, pilot) == apart, "of other coordinates"


def test_hard_targets_get_other_networks():
    class Best:
        num_leapfrogs = 3

    easy = plans(dim=5, best=Best(), angle=1.5, agreed=True, step_size=0.1, num_steps=100)
    hard = plans(dim=5, best=Best(), angle=1.5, agreed=False, step_size=0.1, num_steps=100)
    assert [p.num_leapfrogs for p in easy] == [2, 3]
    assert {p.name for p in hard} == {"small network", "network for tails", "network for modes"}
    assert all(p.squashed and p.hmc_share for p in hard[1:])


def test_a_network_that_sticks_in_the_long_run_gives_way(monkeypatch):
    """Measured 0.4 in a short run and 0.1 in a long one, against 0.2 without networks."""
    pilot = explore(
        jax.random.key(0),
        make_target("scg"),
        make_target("scg").start(jax.random.key(1), 16),
        max_windows=1,
    )

    def candidate(name, worst):
        judgement = Judgement(worst, worst, 1.0, 0.9, 1.0, 0.0, 100, 110, 1.0, 0.0)
        return Candidate(name, None, judgement, 1)

    long_run = {
        "rotation": 0.19,
        "small network": 0.1,
        "larger network": 0.3,
        "small network and HMC": 0.15,
    }
    monkeypatch.setattr(
        _confirm,
        "judged_again",
        lambda key, c, crowd, pilot, num_draws: candidate(c.name, long_run[c.name]),
    )
    monkeypatch.setattr(
        _confirm, "with_small_steps", lambda c, step_size: candidate(f"{c.name} and HMC", 0.0)
    )

    def chosen(*measured):
        notes = []
        rows = _confirm.confirmed(
            jax.random.key(2),
            [candidate(*m) for m in measured],
            np.zeros((2, 32)),
            "gradients",
            pilot,
            notes,
        )
        return {c.name: c.judgement.worst for c in rows}, notes

    found, notes = chosen(("rotation", 0.2), ("small network", 0.4))
    assert found == {"rotation": 0.19, "small network": 0.1, "small network and HMC": 0.15}, (
        "whoever takes its place is run again too, and what lost half of its figure is with small "
        "steps"
    )
    assert notes == [
        "the small network gave 0.4 effective draws per gradient in a short run, 0.1 in a long one"
    ]
    twice, _ = chosen(("rotation", 0.2), ("small network", 0.4), ("small network and HMC", 0.15))
    assert list(twice) == ["rotation", "small network", "small network and HMC"], (
        "they are mixed in once"
    )
    assert chosen(("rotation", 0.2), ("larger network", 0.35)) == (
        {"rotation": 0.2, "larger network": 0.3},
        [],
    )
    assert chosen(("rotation", 0.5), ("small network", 0.4))[0]["small network"] == 0.4, (
        "only the best is run again"
    )


@pytest.mark.parametrize(
    "fault",
    ["dimension 1 is above 2.75 in 0.00% of the draws", "error: 1 of 16 chains rejected 200"],
)
def test_a_kernel_that_would_fail_in_its_final_run_gives_way(monkeypatch, fault):
    """The profile says N(0, 1); one kernel has draws of a normal cut off at its end, or a chain
    that stands still.
    """
    stuck = "rejected" in fault

    class Known:
        parents = (1,)
        quantile = staticmethod(lambda i, level: float(norm.ppf(level)))

    target = make_target("scg")
    pilot = explore(jax.random.key(0), target, target.start(jax.random.key(1), 16), max_windows=1)
    pilot = pilot._replace(profile=Known())
    rng = np.random.default_rng(0)
    whole = rng.normal(size=(16, 1000, 2))
    cut = whole if stuck else np.clip(whole, None, norm.ppf(LEVELS[-1]))
    draws = {"network": cut, "network and HMC": whole, "rotation": whole}
    judgement = Judgement(0.3, 0.3, 1.0, 0.9, 1.0, 0.0, 100, 110, 1.0, 0.0)
    draws |= {"finer": cut, "finer again": whole}
    rates = {
        "network": 0.3,
        "network and HMC": 0.2,
        "rotation": 0.1,
        "finer": 0.25,
        "finer again": 0.15,
    }

    def candidate(name):
        return Candidate(
            name,
            SimpleNamespace(name=name, target=target),
            judgement._replace(ess_per_gradient=rates[name]),
            1,
        )

    def run(key, transition, start, *, num_draws, num_warmup):
        figures = np.ones((12, 16, 1000), int)
        figures[Record._fields.index("nonfinite")] = figures[Record._fields.index("diverging")] = 0
        if transition.name in ("network", "finer") and stuck:
            figures[Record._fields.index("accepted"), 3, 100:300] = 0
        record = Record(*figures)._replace(position=draws[transition.name])
        return candidate(transition.name).judgement, record

    monkeypatch.setattr(_confirm, "measured", run)
    monkeypatch.setattr(
        _confirm, "with_small_steps", lambda c, step_size: candidate("network and HMC")
    )
    monkeypatch.setattr(
        _confirm,
        "with_finer_steps",
        lambda c: candidate("finer again" if "finer" in c.name else "finer"),
    )
    notes = []
    candidates = [candidate("rotation"), candidate("network")]
    found = _confirm.confirmed(
        jax.random.key(2), candidates, np.zeros((2, 32)), "gradients", pilot, notes
    )
    expected = {"rotation": 0, "network": 1, "network and HMC": 0, "finer again": 0}
    assert {c.name: len(c.faults) for c in found} == expected
    assert found[1].faults[0].startswith(fault)
    rows = [_confirm.row_of(c, pilot) for c in found]
    assert [row.reach for row in rows] == [1, 0, 1, 1]
    assert _confirm.choose(rows, "gradients") == "network and HMC"
    assert _confirm.choose(rows[1:2], "gradients") == "network", "if there is nothing else"
    unknown = _confirm.judged_again(
        jax.random.key(2), candidates[1], np.zeros((2, 16)), pilot._replace(profile=None)
    )
    assert len(unknown.faults) == stuck


def test_nuts_is_held_against_the_marginals_too(monkeypatch):
    position = np.random.default_rng(0).normal(size=(8, 300, 2))
    run = PeerDraws(np.abs(position), 10_000, 100, 1.0, 1.0, 0.5, 0.8, 0, {})
    monkeypatch.setattr(_nuts, "_run", lambda *args, **kwargs: run)
    facts = [{"dimension": 1, "quantiles": [0.6, *norm.ppf(LEVELS[1:]).tolist()]}]
    row = _nuts.nuts_row(jax.random.key(0), PerChain(logdensity), jnp.zeros((2, 8)), facts)
    assert row.reach == 0, "never below"
    assert _nuts.nuts_row(jax.random.key(0), PerChain(logdensity), jnp.zeros((2, 8)), []).reach == 1


def test_places_that_a_kernel_ran_away_to_are_not_visited():
    target = make_target("scg")
    pilot = explore(jax.random.key(0), target, target.start(jax.random.key(1), 16), max_windows=1)
    places = np.concatenate(
        [np.asarray(pilot.position), [[1e3, 1e30, np.nan], [0.0, 1e30, 0.0]]], axis=1
    )
    kept = _search._worth_a_visit(target, places, pilot)
    np.testing.assert_array_equal(kept, np.asarray(pilot.position))


def test_chains_that_never_moved_do_not_win():
    """64 frozen chains of 500 draws have an ESS of 64, which is 0.002 per gradient."""
    figures = {
        "num_leapfrogs": 1,
        "ess_per_second": 1.0,
        "acceptance_rate": 0.2,
        "fixed_gradients": 0,
        "fixed_seconds": 0.0,
    }

    def row(name, ess, rhat):
        return Row(
            name=name, ess_per_gradient=ess, ess_sq_per_gradient=ess, rhat_max=rhat, **figures
        )

    assert (
        _confirm.choose([row("frozen", 0.002, 12.0), row("slow", 0.0015, 1.2)], "gradients")
        == "slow"
    )
    assert (
        _confirm.choose([row("frozen", 0.002, 12.0), row("worse", 0.001, 9.0)], "gradients")
        == "frozen"
    )


def test_acceptance_that_is_noise_fails_and_nuts_is_no_way_out():
    options = {
        "seed": 0,
        "num_pilot_chains": 16,
        "num_chains": 4,
        "num_draws": 100,
        "train_steps": 0,
    }
    found = capriole.fit(lambda x: 1e17 - jnp.sum(x**2) / 2, np.zeros(2), **options)
    assert found.verdict.failed
    assert found.verdict.chosen != "NUTS"
    assert "rounded by about 2.2e+03 %" in found.verdict.recommendation()
