"""Networks as candidates: what is planned, how training goes on and ends, what is mixed in."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from capriole.coordinates import Whitened, identity
from capriole.fitting import Account, Addition, Kind, NoteKind
from capriole.fitting._thresholds import THRESHOLDS
from capriole.fitting.proposers import _networks
from capriole.fitting.proposers._networks import Plan, _with_mixture, plans_for, train_candidate
from capriole.kernels import CrankNicolson, Rotation, Transition
from densities import Banana
from stored import PLANE, candidate, context, exploration, metrics

pytestmark = pytest.mark.usefixtures("standard_promotion")

WHITE = Whitened(PLANE, identity(2, jnp.zeros(()).dtype))
SMALL = Plan(Kind.SMALL_NETWORK, 2, 16, (0.8, 0.7), 50)


def planned(dim, num_steps=3000):
    kernel = Transition(WHITE, Rotation(jnp.asarray(1.5), jnp.asarray(3)))
    return plans_for(candidate(transition=kernel, num_leapfrogs=3), dim, num_steps)


def test_networks_are_for_tens_of_dimensions_not_for_hundreds():
    def left_out(dim):
        return [p.name for p in planned(dim) if p.moved(dim) > THRESHOLDS.most_moved]

    assert left_out(10) == left_out(50) == []
    assert left_out(203) == ["small network", "larger network"]


def test_networks_have_fewer_leapfrogs_than_the_rotation_or_as_many():
    small, large = planned(5, 100)
    assert (small.num_leapfrogs, large.num_leapfrogs) == (2, 3)
    assert small.width < large.width


def test_no_network_is_trained_where_chains_of_the_warmup_disagree(monkeypatch):
    monkeypatch.setattr(_networks, "train_candidate", lambda *_, **__: pytest.fail("trained"))
    before = context([candidate(worst=0.01)], warmup=exploration(rhat_max=2.0))
    before = dataclasses.replace(before, settings=before.settings._replace(train_steps=100))
    after = _networks.Networks().propose(before)
    assert after.candidates == before.candidates
    assert [note.kind for note in after.notes] == [NoteKind.LEFT_OUT]
    assert "disagreed" in after.notes[0].text


def test_a_trained_candidate_is_the_best_that_was_measured():
    target = Whitened(Banana(), identity(2, jnp.zeros(()).dtype))
    position = jnp.asarray(Banana().draw(np.random.default_rng(0), 64))
    plan, account = SMALL._replace(num_steps=20), Account()
    found = train_candidate(jax.random.key(1), plan, target, position, account)
    assert found.name == "small network"
    assert found.account is account
    assert account.cost.num_gradients > 20 * 64
    assert found.shared == ()
    assert found.found.shape == position.shape
    assert found.worst > 0


@pytest.mark.parametrize(
    ("scores", "to_beat", "kept", "rounds"),
    [
        # Two rounds that gain nothing end it; the best is kept.
        ((0.2, 0.5, 0.3, 0.4, 0.9), 0.0, 1, 4),
        ((0.2, 0.5, 0.501, 0.8, 0.7), 0.0, 3, 5),  # one flat round is no end
        ((0.5, 0.9, 0.9, 0.9, 0.9), 0.9, 0, 1),  # hopeless beside what there is
        ((0.5, 0.9, 0.4, 0.4, 0.4), 0.8, 1, 4),
    ],
)
def test_training_keeps_the_best_as_measured_and_ends_when_it_gains_nothing(
    monkeypatch, scores, to_beat, kept, rounds
):
    """Training and measuring are scripted: round i makes a kernel of i + 1 leapfrogs that scores
    ``scores[i]``.
    """
    position, made = jnp.zeros((2, 8)), []

    def train(key, transition, position, recipe, **options):
        made.append(Transition(PLANE, Rotation(jnp.asarray(1.0), len(made) + 1)))
        state = SimpleNamespace(position=position + 1)
        return SimpleNamespace(
            transition=made[-1], chains=state, completed=True, num_gradients=1000
        )

    def evaluate(key, kernel, position):
        assert position[0, 0] == len(made), "measured where its chains ended"
        return metrics(scores[len(made) - 1])

    monkeypatch.setattr(_networks, "train_kernel", train)
    monkeypatch.setattr(_networks, "evaluate", evaluate)
    plan, account = SMALL._replace(rounds=5), Account()
    found = train_candidate(jax.random.key(1), plan, WHITE, position, account, to_beat=to_beat)
    assert found.transition.dynamics.num_leapfrogs == kept + 1
    assert found.worst == scores[kept]
    assert len(made) == rounds
    assert account.cost.num_gradients == rounds * 1110, "those of rounds that lost, too"


@pytest.fixture(scope="module")
def mixed():
    """Candidates once the Crank-Nicolson move was mixed into the best network."""
    free = Transition(WHITE, CrankNicolson(jnp.asarray(1.0)))
    slow = Transition(WHITE, Rotation(jnp.asarray(0.1), 2))

    def mix(*made):
        kernels = {Kind.PCN: free, Kind.SMALL_NETWORK: slow}
        known = [candidate(kind, rate, kernels[kind], num_leapfrogs=2) for kind, rate in made]
        before = context(known)
        return known, _with_mixture(before)

    return mix


def test_the_best_network_is_tried_with_the_gradient_free_rotation_mixed_in(mixed):
    known, after = mixed((Kind.PCN, 0.1), (Kind.SMALL_NETWORK, 1e-9))
    names = ["Crank-Nicolson", "small network and Crank-Nicolson", "small network"]
    assert [c.name for c in after.candidates] == names, "before the network, since it is better"
    made = after.candidates[1]
    assert made.additions == (Addition.PCN,)
    assert made.transition.transitions == (known[1].transition, known[0].transition)
    assert made.shared == (known[1].account,)
    figures = made.metrics
    assert made.account.cost.num_gradients == figures.spent_gradients > figures.num_gradients > 0
    assert after.budget.total.num_gradients == figures.spent_gradients


def test_a_mixture_that_is_no_better_comes_last(mixed):
    _, after = mixed((Kind.PCN, 0.1), (Kind.SMALL_NETWORK, 1e9))
    names = ["Crank-Nicolson", "small network", "small network and Crank-Nicolson"]
    assert [c.name for c in after.candidates] == names


def test_nothing_is_mixed_without_a_network_or_in_other_coordinates(mixed):
    known, after = mixed((Kind.PCN, 0.1))
    assert list(after.candidates) == known
    elsewhere = Whitened(PLANE, identity(2, jnp.zeros(()).dtype))
    free = candidate(Kind.PCN, 0.2, Transition(elsewhere, CrankNicolson(jnp.asarray(1.0))))
    network = candidate(Kind.SMALL_NETWORK, 0.1, Transition(WHITE, Rotation(jnp.asarray(0.1), 2)))
    before = context([free, network])
    assert _with_mixture(before) is before
