"""What HMC is tuned for, and around which centre."""

import numpy as np

from capriole_lab.run._tuning import centre_of
from capriole_lab.targets import make_target


def test_the_centre_is_the_exact_mean_where_there_is_one():
    draws = np.ones((2, 3, 10))
    np.testing.assert_array_equal(centre_of(make_target("funnel"), draws), np.zeros(10))


def test_a_parameter_called_mean_is_not_a_moment():
    target = make_target("coal")
    draws = np.full((2, 3, target.dim), 7.0)
    np.testing.assert_array_equal(centre_of(target, draws), np.full(target.dim, 7.0))
