"""The direct way to few draws: one rotation, its angle and length from a few short runs."""

import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from ...adaptation import CHUNK, start_state
from ...coordinates import Whitened, estimate_transport, to_user
from ...diagnostics import farthest, find_modes
from ...kernels import Key, Rotation, Transition, Vector, per_chain
from ...sampling import Draws, draw_chains
from .._budget import Account, Cost
from .._candidate import Candidate, Kind
from .._context import NoteKind, SearchContext, Stream
from .._evaluation import metrics_of
from .._thresholds import DIRECT


class DirectRotation:
    """Proposes one rotation after a short warm-up, with a doubt if its draws do not look simple."""

    name = "direct rotation"

    def cost(self, context: SearchContext) -> Cost:
        """What the short runs may cost: two lengths, and the second one measured."""
        chains = context.warmup.position.shape[1]
        arms = DIRECT.arm_draws * sum(DIRECT.lengths[:2])
        return context.expected(chains * (arms + DIRECT.trial_draws[0] * DIRECT.lengths[1]))

    def propose(self, context: SearchContext) -> SearchContext:
        """The rotation that a few short runs favour, measured in a longer one.

        The score of a rotation by psi with M leapfrogs and mean acceptance A is what it would have
        on a Gaussian, for x and for x^2::

            rho = 1 - A (1 - cos psi),  rho_sq = 1 - A (1 - cos^2 psi)
            score = min over both of (1 - rho) / (1 + rho) / M

        One whose acceptance is low is taken only if all are: its chains may be held in the tails.

        Args:
            context: What the search knows, after a short warm-up.

        Returns:
            The context with the candidate. Its warm-up's positions are where the chains are now.
        """
        key, account = context.stream(Stream.DIRECT), context.budget.open()
        position, white = context.start_in(context.white), context.white
        best: tuple[bool, float, int] = (False, -1.0, DIRECT.lengths[0])
        for m in DIRECT.lengths:
            if best[0] and best[1] >= 1 / m:
                break
            run_key = jax.random.fold_in(key, m)
            run = _run(
                run_key, _rotation(white, m, position.dtype), position, DIRECT.arm_draws, account
            )
            position = run.state.position
            rate = float(run.record.acceptance_rate.mean())
            best = max(best, (rate >= DIRECT.least_acceptance, _score(rate, m), m))
        m = best[2]
        kernel = _rotation(white, m, position.dtype)
        for i, num_draws in enumerate(DIRECT.trial_draws):
            run = _run(jax.random.fold_in(key, 100 + i), kernel, position, num_draws, account)
            position, shape = run.state.position, run.record.position.shape
            flat = run.record.position.reshape(-1, shape[2]).T
            draws = to_user(white, flat).T.reshape(shape)
            metrics = metrics_of(run, draws, every_rhat=False)
            account.add(Cost(0, run.seconds, run.compile_seconds))
            if metrics.rhat_max < DIRECT.most_rhat:
                break
        candidate = Candidate(
            kind=Kind.ROTATION,
            transition=kernel,
            metrics=metrics,
            num_leapfrogs=m,
            account=account,
        )
        max_separation, num_stuck = farthest(draws)
        warmup = context.warmup._replace(
            position=jnp.asarray(draws[:, -1].T, position.dtype),
            draws=draws,
            lp=run.record.lp,
            rhat_max=metrics.rhat_max,
            max_separation=max_separation,
            num_stuck=num_stuck,
            modes=find_modes(draws, run.record.lp),
        )
        context = replace(context, warmup=warmup).with_candidates((candidate,))
        return context.with_notes(NoteKind.NOT_DIRECT, *doubts(candidate, draws))


def doubts(candidate: Candidate, draws: np.ndarray) -> list[str]:
    """Why the direct way is not to be gone: the draws do not look simple.

    Args:
        candidate: The rotation, measured.
        draws: Its draws (chains, draws, dim), in the user's coordinates.

    Returns:
        Reasons; none where it may be gone.
    """
    found = []
    if not candidate.metrics.rhat_max < DIRECT.most_rhat:
        found.append(f"its chains disagreed (R-hat {candidate.metrics.rhat_max:.3g})")
    if candidate.metrics.nonfinite > DIRECT.most_nonfinite:
        found.append(f"{candidate.metrics.nonfinite:.1%} of its proposals were not finite")
    if not candidate.worst > DIRECT.least_rate:
        found.append(f"it gave {candidate.worst:.2g} effective draws per gradient")
    flat = draws.transpose(2, 0, 1).reshape(draws.shape[2], -1)
    curved = estimate_transport(flat)
    if curved is not None and curved.transport.parents.size and curved.gain > DIRECT.most_gain:
        found.append(f"its draws look like a funnel (by {curved.gain:.2f} nats)")
    return found


def _rotation(white: Whitened, num_leapfrogs: int, dtype: np.dtype) -> Transition:
    return Transition(white, Rotation(jnp.asarray(DIRECT.angle, dtype), jnp.asarray(num_leapfrogs)))


def _run(key: Key, kernel: Transition, position: Vector, num_draws: int, account: Account) -> Draws:
    kernel = per_chain(kernel, position.shape[1])
    state = start_state(kernel, position)
    run = draw_chains(key, kernel, state, num_draws=num_draws, chunk_size=CHUNK)
    if not run.completed:
        raise KeyboardInterrupt
    account.charge(run.num_gradients)
    return run


def _score(acceptance: float, num_leapfrogs: int) -> float:
    """See `DirectRotation.propose`."""
    cosine = math.cos(DIRECT.angle)
    rhos = (1 - acceptance * (1 - cosine), 1 - acceptance * (1 - cosine**2))
    return min((1 - rho) / (1 + rho) for rho in rhos) / num_leapfrogs
