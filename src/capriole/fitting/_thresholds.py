"""The thresholds of `fit`, each with its unit and the measurement that chose it.

"The bench" is the 24 targets of docs/peers.md at three seeds. Rates are effective draws per
gradient in the worst dimension, of x or of x^2.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Thresholds:
    """When the search goes on, what it believes, and when draws are called wrong.

    Attributes:
        good_rate: Rate from which on a rotation is neither refined nor compared with a
            Crank-Nicolson move: two gradients for an effective draw leave little to gain.
        no_networks_rate: Rate above which neither a transport map nor networks are tried. On the
            bench networks gained at most 8 % between this and ``good_rate``.
        no_networks_rate_transported: The same in a transport map's coordinates. On garch11
            networks made 0.39 of 0.21.
        hard_rate: Rate below which any candidate is measured again in a long run, as its chains may
            have stuck unseen in a short one, and the longest of similar rotations is taken.
        nuts_rate: Rate that NUTS did not reach on any target of the bench (0.14 at most).
        nuts_diverging: Share of divergent transitions from which on NUTS gets a higher target
            acceptance. It was 0.15 % at most on eight schools, 1.5 % and more on funnels, a banana
            and a horseshoe.
        tie: Share of the best score from which on the simpler candidate is chosen.
        unmixed_rhat: R-hat from which on a rate says nothing, as chains have not met. On a
            horseshoe a kernel with 1.49 seemed as good as NUTS with 1.04.
        mixed_rhat: R-hat below which chains of a short run have met.
        risky_nonfinite: Share of proposals that are not finite above which a kernel is the last
            choice. A kernel with 1.8 % came to an end of a funnel half as often as it should
            (stochastic volatility).
        short_run_share: Share of a short run's figure below which that of a long run
            counts as lost.
        flat_gain: Gain of a training round below which training is flat.
        worthwhile_gain: Gain of the small network over what is there without networks from which
            on the larger one is trained.
        hopeless_share: Share of the rate to beat below which training ends after one round.
        most_moved: Coordinates that a training may move, times leapfrogs. Networks that moved more
            took minutes and lost to rotations (stochastic volatility in 203 dimensions).
        most_jump_dim: Most dimensions in which maxima are climbed to and jumped between.
        least_mode_share: Share of the mass below which a maximum is no mode to jump to.
        good_jump_rate: Rate of jumps between weighed modes above which no other kernel is searched:
            none other crosses between modes that chains of plain HMC did not connect. Two unit
            modes of weights 0.2 and 0.8 have 0.15.
        pcn_held_ratio: Ratio of acceptance rates from typical and from the worst positions above
            which chains of a Crank-Nicolson move may be held.
        search_share: Share of a time budget that warm-up and search have; the draws have the rest.
        stopped_seconds: Seconds of the draws that follow a stop before there were any: long enough
            for a thousand of most densities, short enough to wait for.
        telling_ess: Share of thinned draws that are effective below which a run tells the rate.
    """

    good_rate: float = 0.5
    no_networks_rate: float = 0.25
    no_networks_rate_transported: float = 0.35
    hard_rate: float = 0.1
    nuts_rate: float = 0.2
    nuts_diverging: float = 0.005
    tie: float = 0.9
    unmixed_rhat: float = 1.2
    mixed_rhat: float = 1.05
    risky_nonfinite: float = 0.01
    short_run_share: float = 0.5
    flat_gain: float = 1.03
    worthwhile_gain: float = 1.1
    hopeless_share: float = 0.6
    most_moved: float = 2.2e8
    most_jump_dim: int = 50
    least_mode_share: float = 1e-4
    good_jump_rate: float = 0.1
    pcn_held_ratio: float = 4.0
    search_share: float = 0.7
    stopped_seconds: float = 3.0
    telling_ess: float = 0.8


@dataclass(frozen=True)
class DirectSettings:
    """How `fit` goes the direct way to few draws, and when it does not.

    On 14 of the bench's targets in 2 to 50 dimensions 1,000 effective draws took 17,000 to 57,000
    gradients so, everything included (results/answer).

    Attributes:
        angle: Angle of the rotation, in radians: a little below a quarter turn.
        lengths: Leapfrogs that are tried.
        arm_draws: Draws of each chain by which lengths are compared.
        least_acceptance: Acceptance below which a length is the last choice. On garch11 one
            leapfrog (0.54) scored as two (0.90), and its chains were held in a tail.
        trial_draws: Draws of each chain by which the chosen one is measured; the next number while
            its chains disagree. On garch11 and eight schools non-centred the first 100 gave an
            R-hat of 1.11 and 1.17 for rates of 0.09 and 0.06.
        fewest_chains: Chains of the warm-up at least.
        most_warmup_rhat: R-hat of the last window of the short warm-up above which nothing is
            tried: 1.24 is no disagreement in 20 dependent draws (logistic regression, two seeds).
        most_rhat: R-hat of these draws above which the search takes over.
        most_nonfinite: Share of proposals that are not finite above which it does.
        least_rate: Effective draws per gradient below which it does.
        most_gain: Nats by which a transport map with a parent may make the draws more probable
            before it does: such draws may miss the neck of a funnel.
        search_share: Share of the usual number of points of the search for modes. With it the first
            draw comes after 30,000 gradients on a logistic regression, and of points that lead to
            a mode as narrow as in `ModeSearchSettings` seven are expected.
        margin: Factor of the draws that the measured rate asks for: the rate is uncertain.
        least_growth: Factor by which a run that is too short grows at least.
        most_growth: Factor by which it grows at most, as short runs misjudge slow chains.
        most_numbers: Numbers of the draws of one pass, which must fit into memory.
    """

    angle: float = 1.5
    lengths: tuple[int, ...] = (1, 2, 3, 5, 8)
    arm_draws: int = 20
    least_acceptance: float = 0.7
    trial_draws: tuple[int, ...] = (100, 200, 400)
    fewest_chains: int = 16
    most_warmup_rhat: float = 1.5
    most_rhat: float = 1.1
    most_nonfinite: float = 1e-3
    least_rate: float = 1e-3
    most_gain: float = 0.3
    search_share: float = 0.4
    margin: float = 1.2
    least_growth: float = 1.3
    most_growth: float = 4.0
    most_numbers: float = 1e8


THRESHOLDS = Thresholds()
DIRECT = DirectSettings()

LADDER = (1, 2, 3, 4, 6, 9, 14, 21)
"""Leapfrogs of a rotation, tried in this order; one whose long run shows faults gets the next."""
SHORT = LADDER[:4]
"""The lengths that are tried before a transport map: where a map helps, longer ones do not pay."""
RUN_MULTIPLIERS = (1, 4, 16)
"""How many times as long the passes of a final run are, thinned to as many draws."""
LEAST_DRAWS = 8
"""Draws of each chain at least: R-hat is not defined for fewer."""
WARMUP_DRAWS = 200
"""Draws that are left out of runs which start far out on purpose."""
EXPLORATORY_RATIO = 3
"""Exploratory chains of the warm-up for each of its chains."""
