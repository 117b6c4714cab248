"""Modes: found among a pilot's chains, and which of them draws are in."""

import numpy as np
import pytest

from capriole.diagnostics import Modes, assign_modes, find_modes, summarise_modes

RNG = np.random.default_rng(0)


def chains(centres, *, sd=1.0, num_draws=100):
    """Chains of standard normal draws around ``centres``, and their log densities."""
    noise = RNG.normal(size=(len(centres), num_draws, len(centres[0])))
    return np.asarray(centres)[:, None] + sd * noise, -np.sum(noise**2, axis=2) / 2


def test_one_mode_is_one():
    draws, lp = chains(np.zeros((8, 3)))
    assert find_modes(draws, lp).label.tolist() == [0] * 8


def test_two_modes_are_told_apart_and_their_masses_estimated():
    """The second is half as wide in each of two dimensions, and as high: a quarter of the first
    one's mass.
    """
    wide, lp = chains([[0.0, 0.0]] * 5)
    narrow, lp_narrow = chains([[30.0, 0.0]] * 3, sd=0.5)
    modes = find_modes(np.concatenate([narrow, wide]), np.concatenate([lp_narrow, lp]))
    assert modes.label.tolist() == [0] * 3 + [1] * 5
    assert np.exp(modes.log_mass[0] - modes.log_mass[1]) == pytest.approx(0.25, rel=0.3)


def test_a_chain_that_went_from_one_mode_to_the_other_connects_nothing():
    draws, lp = chains([[0.0, 0.0]] * 3 + [[20.0, 0.0]] * 3 + [[0.0, 0.0]])
    draws[6, 50:, 0] += 20
    modes = find_modes(draws, lp)
    assert modes.label.tolist() == [0] * 3 + [1] * 3 + [-1]


def test_places_are_connected_by_those_between():
    draws, lp = chains([[4.0 * i, 0.0] for i in range(6)])
    assert find_modes(draws, lp).label.tolist() == [0] * 6
    assert find_modes(draws[::2], lp[::2]).label.tolist() == [0, 1, 2]


def test_a_rough_surface_has_no_modes_to_count():
    draws, lp = chains([[30.0 * i, 0.0] for i in range(17)])
    modes = find_modes(draws, lp)
    assert modes.label.tolist() == [-1] * 17
    assert summarise_modes(modes, draws) == ()
    assert len(find_modes(draws[:16], lp[:16]).log_mass) == 16


def test_chains_that_stand_still_are_in_no_mode():
    draws, lp = chains([[0.0, 0.0]] * 3)
    draws[1] = 40.0
    assert find_modes(draws, lp).label.tolist() == [0, -1, 0]
    assert find_modes(np.zeros((4, 100, 2)), np.zeros((4, 100))).label.tolist() == [-1] * 4


def test_a_mass_that_is_no_number_is_left_out():
    draws, lp = chains([[0.0, 0.0]] * 2 + [[30.0, 0.0]] * 2)
    lp[2:, 0] = np.nan
    (only,) = summarise_modes(find_modes(draws, lp), draws)
    assert only.share == 1
    assert abs(only.centre[0]) < 1


def test_masses_of_few_draws_go_by_variances():
    draws, lp = chains([[0.0] * 30] * 2 + [[50.0] * 30] * 2, num_draws=100)
    modes = find_modes(draws, lp)
    assert np.ptp(modes.log_mass) < 3, "of 30 dimensions, 600 draws wanted, 200 there"


def test_draws_belong_to_the_place_that_they_are_near_in_its_own_scale():
    draws, _ = chains([[0.0, 0.0]] * 2 + [[20.0, 0.0]] * 2)
    found = summarise_modes(Modes(np.array([0, 0, 1, 1]), np.log([0.2, 0.8])), draws)
    assert [round(place.share, 3) for place in found] == [0.8, 0.2], "the greatest mass first"
    label = assign_modes(np.array([[[0.5, 0.0], [19.0, 1.0]], [[9.0, 0.0], [12.0, 0.0]]]), found)
    np.testing.assert_array_equal(label, [[1, 0], [1, 0]])
