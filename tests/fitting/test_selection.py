"""Which sampler draws: the choice between rows, and when NUTS is among them."""

import numpy as np

from capriole.diagnostics import Modes
from capriole.fitting import Kind, choose, may_be_chosen, nuts_cannot_win
from stored import context, exploration, row

NUTS = row(Kind.NUTS, 0.06, ess_per_second=500.0)


def named(rows, criterion="gradients"):
    return choose(rows, criterion).name


def test_chains_that_never_moved_do_not_win():
    """64 frozen chains of 500 draws have an ESS of 64, which is 0.002 per gradient."""
    frozen = row(Kind.ROTATION, 0.002, rhat_max=12.0)
    assert choose([frozen, row(worst=0.0015, rhat_max=1.15)], "gradients") is not frozen
    assert choose([frozen, row(worst=0.001, rhat_max=9.0)], "gradients") is frozen


def test_chains_that_have_not_met_do_not_win_because_all_others_have_faults():
    """The table of a horseshoe regression: sound rows are slow, and one seems to be fast."""
    stuck, sound, nuts = row(worst=0.005, reach=0.0), row(Kind.PCN, 0.001), NUTS
    for rhat_max, expected in ((1.19, Kind.MODE_JUMP), (1.21, Kind.NUTS), (1.49, Kind.NUTS)):
        apart = row(Kind.MODE_JUMP, 0.1, rhat_max=rhat_max)
        assert choose([stuck, apart, sound, nuts], "gradients").kind is expected
    nuts = row(Kind.NUTS, 0.0025, rhat_max=1.04)
    sticky = row(Kind.PCN, 0.003, rhat_max=1.016, reach=0.2)
    rows = [row(worst=0.0024, rhat_max=1.49), stuck, sticky, nuts]
    assert may_be_chosen(rows, agreed=False) == rows, "what misses an end says nothing against NUTS"
    assert choose(may_be_chosen(rows, agreed=False), "gradients") is nuts


def test_a_kernel_that_missed_an_end_counts_for_as_much_less():
    missed, other = row(worst=0.4, reach=0.3), row(Kind.PCN, 0.1)
    assert choose([missed, other], "gradients") == missed
    assert choose([missed._replace(reach=0.1), other], "gradients") == other
    assert choose([missed._replace(reach=0.0), other], "gradients") == other
    assert choose([missed._replace(reach=0.0)], "gradients").kind is Kind.ROTATION


def test_the_best_wins_and_the_first_of_near_ties():
    plain = row(worst=0.29, ess_per_second=2000.0)
    network = row(Kind.SMALL_NETWORK, 0.3, ess_per_second=100.0)
    assert named([plain, network, NUTS]) == "rotation"
    better = row(Kind.LARGER_NETWORK, 0.5, ess_per_second=1.0)
    assert named([plain, better, NUTS]) == "larger network"
    assert named([better, plain, NUTS], "seconds") == "rotation"
    assert named([row(worst=0.01), NUTS]) == "NUTS"


def test_a_kernel_whose_proposals_are_not_finite_is_the_last_choice():
    slow = row(Kind.PCN, 0.02)
    for share, expected in ((0.068, slow.kind), (0.018, slow.kind), (0.009, Kind.ROTATION)):
        large = row(nonfinite=share)
        assert choose([large, slow], "gradients").kind is expected
        assert choose([large], "gradients") is large


def test_a_row_whose_figures_are_no_numbers_is_not_chosen():
    nothing = row(worst=np.nan, rhat_max=np.nan)
    assert nothing.worst == 0
    assert choose([nothing, row(Kind.PCN, 0.01)], "gradients").kind is Kind.PCN


def test_nuts_is_left_out_for_what_is_chosen_only():
    known, in_time = context(), context(criterion="seconds")
    good = row(worst=0.25)
    risky, slow = good._replace(nonfinite=0.02), row(Kind.PCN, 0.05)
    assert nuts_cannot_win([good, slow], known)
    assert not nuts_cannot_win([risky, slow], known)
    assert not nuts_cannot_win([risky], known)
    assert not nuts_cannot_win([good], in_time)
    assert not nuts_cannot_win([good._replace(reach=0.5)], known)


def test_nuts_is_left_out_where_chains_sat_in_several_modes():
    slow = row(worst=0.05)
    for num_modes, expected in ((2, True), (1, False)):
        modes = Modes(np.arange(16) % num_modes, np.zeros(num_modes))
        max_separation = context(warmup=exploration(max_separation=100.0, modes=modes))
        assert nuts_cannot_win([slow], max_separation) == expected, (
            "NUTS may cross what one mode's do not"
        )


def test_nuts_is_no_choice_where_plain_hmc_disagreed_and_a_candidates_chains_met():
    """NUTS in one of two modes: R-hat 1.01, and more effective draws than a network that moves
    between them.
    """
    nuts, network = (
        row(Kind.NUTS, 0.13, rhat_max=1.01),
        row(Kind.SMALL_NETWORK, 0.02, rhat_max=1.01),
    )
    rows = [row(worst=0.13, rhat_max=1.5), network, nuts]
    assert may_be_chosen(rows, agreed=False) == rows[:2]
    assert may_be_chosen(rows, agreed=True) == rows
    stuck = [rows[0], network._replace(rhat_max=1.06), nuts]
    assert may_be_chosen(stuck, agreed=False) == stuck, "nobody's chains met: NUTS may be right"
