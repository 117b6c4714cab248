"""The class of `numpyro_kernel`. It is imported on first use, as it needs NumPyro."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from numpyro.infer.mcmc import MCMCKernel

from ..coordinates import users
from ..fitting import Fit, fit
from ..kernels import AbstractTransition, Key
from ..models import Model, from_numpyro, leaf_names
from ._blackjax import LoopState, as_blackjax

_SAME = 1e-4
"""Two log densities are one if values differ by less, relatively: rounding in float32 is 1e-6."""


class KernelState(NamedTuple):
    """A chain's state, in the names that ``extra_fields`` and ArviZ know.

    Attributes:
        i: steps done.
        z: position, unconstrained, by site.
        potential_energy: minus the log density.
        accept_prob: acceptance probability of the last step.
        diverging: whether its proposal was divergent.
        num_steps: its gradients.
        energy: minus the log joint density at its start, in the kernel's coordinates.
        loop: the state of `as_blackjax`.
        rng_key: random key of the next step.
    """

    i: Any
    z: Any
    potential_energy: Any
    accept_prob: Any
    diverging: Any
    num_steps: Any
    energy: Any
    loop: LoopState
    rng_key: Key


class NumpyroKernel(MCMCKernel):
    """See `capriole.numpyro_kernel`.

    Args:
        model: a function with NumPyro's primitives.
        transition: a frozen kernel, or None.
        options: options of `capriole.fit`.
    """

    sample_field = "z"

    def __init__(
        self,
        model: Callable[..., Any],
        transition: AbstractTransition | None,
        options: Mapping[str, Any],
    ):
        self.model, self.transition, self.options = model, transition, dict(options)
        self.is_given = transition is not None
        self.found: Fit | None = None
        self._read: Model | None = None
        self._sample_fn: Any = None  # NumPyro calls init anew while this is None

    @property
    def default_fields(self) -> tuple[str, ...]:
        """Fields that are kept of every draw."""
        return ("z", "diverging")

    def init(
        self, rng_key: Key, num_warmup: int, init_params: Any, model_args: Any, model_kwargs: Any
    ) -> KernelState:
        """The state of one chain, or of many where ``rng_key`` has an axis of chains.

        Args:
            rng_key: a random key, or one for each chain.
            num_warmup: not used: nothing adapts.
            init_params: unconstrained positions by site; None: draws of the fit, or points around
                the model's own starting point.
            model_args: the model's arguments.
            model_kwargs: its keyword arguments.

        Returns:
            The state.

        Raises:
            ValueError: the kernel belongs to another model or to other data.
            RuntimeError: `capriole.fit` found no kernel.
        """
        self._prepare(model_args, model_kwargs or {}, isinstance(rng_key, jax.core.Tracer))
        single = jnp.ndim(rng_key) == (0 if _is_typed(rng_key) else 1)
        keys = rng_key[None] if single else rng_key
        if init_params is None:
            init_params = jax.vmap(self._start)(keys)
        elif single:
            init_params = jax.tree.map(lambda x: jnp.asarray(x)[None], init_params)
        states = jax.vmap(self._first)(keys, init_params)
        return jax.tree.map(lambda x: x[0], states) if single else states

    def sample(self, state: KernelState, model_args: Any, model_kwargs: Any) -> KernelState:
        """The state after one step.

        Args:
            state: of one chain, or of many.
            model_args: not used: `init` has seen them.
            model_kwargs: likewise.

        Returns:
            The next state.

        Raises:
            ValueError: the arguments are traced (``jit_model_args=True``).
        """
        _check_concrete(model_args, model_kwargs)
        return self._next(state) if jnp.ndim(state.i) == 0 else jax.vmap(self._next)(state)

    def postprocess_fn(self, model_args: Any, model_kwargs: Any) -> Callable[[Any], Any]:
        """The way from unconstrained values to those of the model, deterministic sites included.

        Args:
            model_args: the model's arguments.
            model_kwargs: its keyword arguments.

        Returns:
            A function of one position.
        """
        _check_concrete(model_args, model_kwargs)
        if self._read is None:
            self._read = from_numpyro(self.model, *model_args, **(model_kwargs or {}))
        return self._read.constrain or (lambda position: position)

    def get_diagnostics_str(self, state: KernelState) -> str:
        """What a progress bar shows."""
        name = self.found.verdict.chosen if self.found else "capriole"
        return f"{name}, acceptance {float(jnp.mean(state.accept_prob)):.2f}"

    def _prepare(self, args: Any, kwargs: Any, traced: bool) -> None:
        """Read the model, and fit a kernel where there is none for these data."""
        with jax.ensure_compile_time_eval():
            self._read = model = from_numpyro(self.model, *args, **kwargs)
            fits = self.transition is not None and _is_for(self.transition, model)
        if not fits and self.is_given:
            raise ValueError(
                "the kernel is not for this model and these data: its log density differs; pass "
                "the transition that capriole.fit found for them, or none"
            )
        if not fits:
            if traced:
                raise RuntimeError(
                    "capriole.fit cannot run inside jax.pmap or jax.vmap: use "
                    "MCMC(..., chain_method='vectorized'), or pass a transition"
                )
            self.found = fit(model, **self.options)
            self.transition = self.found.transition
        if self.transition is None:
            assert self.found is not None
            raise RuntimeError(
                "capriole.fit found no kernel that is better than NUTS; use numpyro.infer.NUTS: "
                f"{self.found.verdict.recommendation}"
            )
        self._algorithm = as_blackjax(self.transition, model.init)
        self._sample_fn = self._algorithm.step

    def _start(self, key: Key) -> Any:
        """A place to start from."""
        assert self._read is not None
        if self.found is not None:
            ends = _last_draws(self.found, self._read)
            which = jax.random.randint(key, (), 0, len(jax.tree.leaves(ends)[0]))
            return jax.tree.map(lambda x: jnp.asarray(x)[which], ends)
        leaves, structure = jax.tree.flatten(self._read.init)
        keys = jax.random.split(key, len(leaves))
        moved = [
            x + jax.random.normal(k, jnp.shape(x), jnp.result_type(x))
            for k, x in zip(keys, map(jnp.asarray, leaves), strict=True)
        ]
        return jax.tree.unflatten(structure, moved)

    def _first(self, key: Key, position: Any) -> KernelState:
        init_key, key = jax.random.split(key)
        loop = self._algorithm.init(position, init_key)
        zero, none = jnp.zeros_like(loop.logdensity), jnp.zeros((), jnp.int32)
        return KernelState(
            i=none,
            z=loop.position,
            potential_energy=-loop.logdensity,
            accept_prob=zero,
            diverging=jnp.zeros((), bool),
            num_steps=none,
            energy=zero,
            loop=loop,
            rng_key=key,
        )

    def _next(self, state: KernelState) -> KernelState:
        key, step_key = jax.random.split(state.rng_key)
        loop, info = self._algorithm.step(step_key, state.loop)
        return KernelState(
            i=state.i + 1,
            z=loop.position,
            potential_energy=-loop.logdensity,
            accept_prob=info.acceptance_rate,
            diverging=info.is_divergent,
            num_steps=info.num_integration_steps.astype(jnp.int32),
            energy=info.energy,
            loop=loop,
            rng_key=key,
        )


def _is_typed(key: Key) -> bool:
    return jax.dtypes.issubdtype(key.dtype, jax.dtypes.prng_key)


def _check_concrete(*arguments: Any) -> None:
    """Refuse arguments of a compiled program: the kernel holds those that `init` has seen."""
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(arguments)):
        raise ValueError(
            "the kernel belongs to its data: leave out jit_model_args=True in numpyro.infer.MCMC"
        )


def _is_for(transition: AbstractTransition, model: Model) -> bool:
    """Whether a kernel's log density is that of a model, at a few points."""
    theirs = users(transition.target)
    flat, unravel = ravel_pytree(jax.tree.map(jnp.asarray, model.init))
    try:
        jax.eval_shape(theirs, flat)
    except Exception:  # a user's log density may raise anything at the wrong size
        return False
    rng = np.random.default_rng(0)
    for _ in range(3):
        x = flat + jnp.asarray(0.1 * rng.normal(size=flat.size), flat.dtype)
        one, other = float(theirs(x)), float(model.logdensity(unravel(x)))
        if not abs(one - other) <= _SAME * (1 + abs(other)):
            return False
    return True


def _last_draws(found: Fit, model: Model) -> Any:
    """The last draw of every chain of a fit, as positions with a leading axis of chains."""
    draws: Any = found.tree["unconstrained_posterior"]
    ends = [draws[name].values[:, -1] for name in leaf_names(model.init)]
    return jax.tree.unflatten(jax.tree.structure(model.init), ends)
