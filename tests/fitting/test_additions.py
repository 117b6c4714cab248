"""What is added to a candidate: small HMC steps, finer rotations."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from capriole.fitting import Account, Addition, Kind, with_finer_steps, with_small_steps
from capriole.kernels import CrankNicolson, Mixture, Rotation, Transition, learned_leapfrog
from stored import PLANE, candidate


def test_small_steps_take_a_fifth_of_the_gradients():
    kernel = Transition(PLANE, Rotation(jnp.asarray(1.0), jnp.asarray(9)))
    before, account = candidate(transition=kernel, num_leapfrogs=9), Account()
    before.account.charge(70)
    mixed = with_small_steps(before, 0.3, account)
    (one, other), (share, rest) = mixed.transition.transitions, mixed.transition.probabilities
    steps = rest * other.transition.dynamics.num_leapfrogs
    np.testing.assert_allclose(steps / (steps + share * 9), 0.2)
    assert one is kernel
    assert mixed.name == "rotation and HMC"
    assert mixed.additions == (Addition.HMC,)
    assert (mixed.account, mixed.shared) == (account, (before.account,))


def test_finer_steps_are_of_the_same_rotation():
    kernel = Transition(PLANE, Rotation(jnp.asarray([1.0, 1.2]), jnp.asarray(9)))
    before, account = candidate(transition=kernel, num_leapfrogs=9), Account()
    once = with_finer_steps(before, account)
    assert once.name == "rotation in finer steps"
    assert (once.num_leapfrogs, int(once.transition.dynamics.num_leapfrogs)) == (14, 14)
    assert (once.account, once.shared) == (account, (before.account,))
    np.testing.assert_array_equal(once.transition.dynamics.angle, kernel.dynamics.angle)
    twice = with_finer_steps(once, once.account)
    assert (twice.name, twice.num_leapfrogs) == (once.name, 21)
    assert (twice.account, twice.shared) == (account, once.shared), (
        "it takes the place of the other"
    )


def test_rotations_in_a_mixture_are_made_finer_too():
    kernel = Transition(PLANE, Rotation(jnp.asarray([1.0, 1.2]), jnp.asarray(9)))
    parts = (kernel, Transition(PLANE, CrankNicolson(jnp.asarray(1.0))))
    mixed = candidate(transition=Mixture(parts, (0.5, 0.5)), num_leapfrogs=9)
    finer = with_finer_steps(mixed, Account())
    assert int(finer.transition.transitions[0].dynamics.num_leapfrogs) == 14


def test_a_network_has_no_finer_steps():
    learned = Transition(PLANE, learned_leapfrog(jax.random.key(0), dim=2, num_leapfrogs=2))
    network = candidate(Kind.SMALL_NETWORK, transition=learned, num_leapfrogs=2)
    assert with_finer_steps(network, Account()) is None


def test_names_are_made_of_what_a_candidate_is():
    made = replace(candidate(Kind.PCN), additions=(Addition.ROTATION, Addition.HMC))
    assert made.name == "Crank-Nicolson and rotation and HMC"
    assert not made.is_gradient_free
    assert candidate(Kind.PCN).is_gradient_free
    assert candidate(Kind.SMALL_NETWORK, additions=(Addition.PCN,)).is_gradient_free
