"""What the public calls have in common: arguments by their right names, and JAX's settings."""

import difflib
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

_NAMES = {
    "init": "initvals init_params init_values initial_position initial_points inits start x0",
    "logdensity": "logp log_prob logprob log_density logdensity_fn target_log_prob_fn model lp",
    "num_chains": "chains n_chains nchains num_chain parallel_chains",
    "num_draws": "draws num_samples n_samples num_results iter_sampling samples n_draws num_iter",
    "num_warmup": "tune warmup iter_warmup n_tune num_burnin_steps burnin burn_in",
    "progress": "progressbar progress_bar",
    "seed": "rng_key random_seed key rng prng_key random_state",
    "starts": "initial_positions",
    "thin": "thinning",
    "transition": "kernel",
}
"""Our names, and what PyMC, NumPyro, BlackJAX, Stan and TFP call the same."""
_CHOSEN = {
    "is adapted": "target_accept target_accept_prob adapt_delta step_size max_treedepth "
    "max_tree_depth dense_mass num_warmup metric mass_matrix",
    "is not needed, because chains share one program": "cores chain_method vectorized",
}
"""What a call may do by itself, and what others call that."""
_MEANT = {name: ours for ours, names in _NAMES.items() for name in names.split()}
_ITSELF = {name: what for what, names in _CHOSEN.items() for name in names.split()}


def entry_point[**P, R](function: Callable[P, R]) -> Callable[P, R]:
    """A public call: a loop on the host, whatever JAX's settings are.

    Arrays of different ranks meet by design, per-chain numbers (chains,) and positions (dim,
    chains), so ``jax_numpy_rank_promotion`` is "allow" inside.

    Args:
        function: the call.

    Returns:
        The same call. It raises TypeError for an argument that it has not, with the right name, and
        RuntimeError inside of ``jax.jit``, ``vmap`` or ``grad``.
    """
    name, known = function.__name__, inspect.signature(function).parameters

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        for given in kwargs:
            if given not in known:
                raise TypeError(_unknown(name, given, known))
        if _is_traced((args, kwargs)):
            raise RuntimeError(
                f"{name} cannot run inside jax.jit, vmap, grad or scan: it compiles programs of "
                "its own and decides between them; call it outside, for many data sets in a "
                "Python loop"
            )
        with jax.numpy_rank_promotion("allow"):
            return function(*args, **kwargs)

    return call


def _is_traced(arguments: Any) -> bool:
    """Whether JAX is tracing: an argument is no number yet, or not even a constant is one."""
    leaves: Iterable[Any] = [jnp.zeros(()), *jax.tree.leaves(arguments)]
    return any(isinstance(leaf, jax.core.Tracer) for leaf in leaves)


def _unknown(call: str, given: str, known: Mapping[str, Any]) -> str:
    """What is wrong with the name of an argument."""
    ours = _MEANT.get(given)
    if ours in known:
        return f"{call}() has no argument {given!r}: it is called {ours}"
    if given in _ITSELF:
        return f"{call}() has no argument {given!r}: it {_ITSELF[given]}; leave it out"
    if ours == "num_warmup":
        what = "decides when its warm-up ends"
        return f"{call}() has no argument {given!r}: it {what}; leave it out"
    close = difflib.get_close_matches(given, known, n=1)
    remedy = f"is it {close[0]}?" if close else f"it has {', '.join(known)}"
    return f"{call}() has no argument {given!r}: {remedy}"
