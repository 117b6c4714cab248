"""Training never returns a kernel that measures worse than a good start."""

from typing import Any

from capriole.fitting import evaluate
from capriole.kernels import AbstractDynamics, AbstractLogDensity, Key, Transition
from capriole.runtime import any_process, is_first_process
from capriole.training import TrainResult


def keep_best(
    key: Key, result: TrainResult, target: AbstractLogDensity, start: AbstractDynamics | None
) -> tuple[TrainResult, dict[str, Any]]:
    """The trained kernel for ``target``, or the one with the dynamics ``start`` (None: no good one)
    if that is better.

    Both are measured on the last training chains, by ESS per gradient; what that takes counts as
    training.
    """
    kernels = {"trained": Transition(target, result.transition.dynamics)}
    if start is None:
        return result._replace(transition=kernels["trained"]), {"which": "trained"}
    kernels["start"] = Transition(target, start)
    judged = {
        name: evaluate(key, kernel, result.chains.position[:, :64])
        for name, kernel in kernels.items()
    }
    scores = {name: judgement.worst for name, judgement in judged.items()}
    best = (
        "start"
        if any_process(is_first_process() and scores["start"] > scores["trained"])
        else "trained"
    )
    spent = result.num_gradients + sum(judgement.spent_gradients for judgement in judged.values())
    return result._replace(transition=kernels[best], num_gradients=spent), {
        "which": best,
        "ess_per_gradient": scores,
    }
