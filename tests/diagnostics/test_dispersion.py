"""Chains that sit apart, that never moved, and places that are denser than where chains are."""

import numpy as np

from capriole.diagnostics import SEPARATION, ExploredPoints, farthest, missed_high_density_points


def test_one_chain_of_many_in_another_mode_is_noticed():
    draws = np.random.default_rng(0).normal(size=(64, 100, 2))
    assert farthest(draws)[0] < 1
    draws[5, :, 1] += 10
    apart, frozen = farthest(draws)
    assert apart > SEPARATION
    assert frozen == 0


def test_a_frozen_chain_is_counted_and_sits_nowhere():
    draws = np.random.default_rng(0).normal(size=(64, 100, 2))
    draws[5] = draws[5, :1] + 1.0
    apart, frozen = farthest(draws)
    assert apart < 1
    assert frozen == 1


def test_a_place_denser_than_a_gaussians_mode_is_noticed():
    draws = -np.random.default_rng(0).chisquare(5, size=(100, 64)) / 2
    met = ExploredPoints(np.arange(4.0)[None], np.array([-30.0, -1.0, 0.0, 3.5]))
    assert missed_high_density_points(met, draws).tolist() == [[3.0]]
    assert missed_high_density_points(met, np.full((2, 2), -np.inf)).size == 0
