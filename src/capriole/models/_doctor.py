"""Diagnosis of a log density: what training and sampling will need of it, tested in seconds."""

import contextlib
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..kernels import (
    AbstractLogDensity,
    Key,
    Phase,
    Transition,
    Vector,
    has_second_derivative,
    learned_leapfrog,
    state_at,
    value_and_grad,
)
from ..runtime import in_precision, precision_context
from ._checks import check_logdensity, first_line
from ._model import Model
from ._prepared import prepared
from ._pytrees import as_logdensity, as_model

type Verdict = Literal["ok", "warning", "error"]
"""How a check ended."""

_NUM_POINTS = 64
"""Random positions that are tested.

A region without support that holds 1 in 20 of them is missed with probability 0.04.
"""
_TAKE_FLOAT64 = "compute in float64, the default"
"""The remedy for rounding."""
_NUM_CHAINS = 100
"""Chains whose gradients are timed together, so that they share the cost of dispatch."""


class Finding(NamedTuple):
    """The result of one check.

    Attributes:
        name: what was checked.
        verdict: how it ended.
        found: what was found.
        remedy: what to do about it; empty if all is well.
    """

    name: str
    verdict: Verdict
    found: str
    remedy: str = ""


def diagnose_logdensity(
    logdensity: AbstractLogDensity | Model,
    *,
    dim: int | None = None,
    key: Key,
    spread: float = 1.0,
    precision: str = "float64",
) -> Iterator[Finding]:
    """Check a log density at 0, or a model at its ``init``, and at 64 random points around it.

    Stops after the first finding that makes the rest meaningless.

    Args:
        logdensity: a model, or a log density in the library's layout.
        dim: number of coordinates; a model has its own.
        key: random key of the points.
        spread: standard deviation of the points.
        precision: "float64" or "float32"; some checks compare it with the other.

    Returns:
        An iterator over one `Finding` per check.
    """
    findings = _diagnosed(as_model(logdensity), dim=dim, key=key, spread=spread)
    return in_precision(precision, findings)


def _diagnosed(
    logdensity: AbstractLogDensity | Model, *, dim: int | None, key: Key, spread: float
) -> Iterator[Finding]:
    dtype, name = jnp.zeros(()).dtype, "value and gradient at 0"
    if isinstance(logdensity, Model):
        name = "value and gradient at init"
        logdensity, origin = as_logdensity(logdensity)
        dim = origin.size
    elif dim is None:
        raise ValueError("pass dim, the number of coordinates of the log density")
    else:
        origin = jnp.zeros(dim, dtype)
    try:
        check_logdensity(logdensity, origin)
    except Exception as error:
        yield Finding(name, "error", str(error), "see the message")
        return
    value = float(logdensity(origin))
    yield Finding(name, "ok", f"{value:.6g}, a differentiable scalar of {dtype}")
    with contextlib.suppress(ValueError):  # what is wrong with it, the checks below will find
        logdensity = prepared(logdensity, origin[:, None])
    points = origin[:, None] + spread * jax.random.normal(key, (_NUM_POINTS, dim), dtype).T
    try:
        values, grads = jax.jit(lambda x: value_and_grad(logdensity, x))(points)
    except Exception as error:
        yield Finding(
            "many chains at once",
            "error",
            first_line(error),
            "write it so that jax.vmap and jax.jit apply",
        )
        return
    values, grads = np.asarray(values), np.asarray(grads)
    yield _batch(logdensity, points, values)
    inside = np.isfinite(values)
    yield from _support(values, grads, spread)
    if inside.sum() < 2:
        return
    inner = points[:, np.flatnonzero(inside)]
    yield _second(logdensity, inner[:, 0])
    yield _differences(logdensity, np.asarray(inner, np.float64))
    yield _precision(logdensity, np.asarray(inner))
    yield _reversibility(logdensity, inner, key)
    yield _cost(logdensity, dim)


def _batch(logdensity: AbstractLogDensity, points: Vector, values: np.ndarray) -> Finding:
    """Check for purity: equal values for one chain, for many chains, and in a second call."""
    name = "same value every time"
    single = np.array([logdensity(points[:, i]) for i in range(8)])
    again = np.asarray(logdensity(points))
    close = 1e3 * np.finfo(values.dtype).eps
    same = np.allclose(single, values[:8], rtol=close, atol=close, equal_nan=True)
    if same and np.allclose(again, values, rtol=close, atol=close, equal_nan=True):
        return Finding(name, "ok", "one chain, many chains and a second call agree")
    found = (
        f"{single[0]:.9g} for one chain, {values[0]:.9g} among many, "
        f"{again[0]:.9g} in a second call"
    )
    return Finding(
        name, "error", found, "make it a pure function of the position, without state or randomness"
    )


def _support(values: np.ndarray, grads: np.ndarray, spread: float) -> Iterator[Finding]:
    """Check that values and gradients are finite at the random points."""
    bad, nans = int(np.sum(~np.isfinite(values))), int(np.sum(np.isnan(values)))
    found = f"finite at {len(values) - bad} of {len(values)} points {spread:g} N(0, I)"
    if nans:
        yield Finding(
            "support",
            "error",
            f"{found}, NaN at {nans}",
            "guard logs, square roots and 0/0; return -inf there",
        )
    elif bad == len(values):
        yield Finding(
            "support", "error", found, "give a --spread that keeps the starts inside the support"
        )
    elif bad:
        remedy = (
            "proposals outside are rejected; a smooth map to the whole space (log, logit) "
            "samples better"
        )
        yield Finding("support", "warning", found, remedy)
    else:
        yield Finding("support", "ok", found)
    at_points = np.isfinite(grads).all(axis=0)[np.isfinite(values)]
    if at_points.all():
        yield Finding("finite gradients", "ok", f"at all {at_points.size} points of finite value")
    else:
        found = (
            f"not finite at {int((~at_points).sum())} of {at_points.size} points of finite value"
        )
        yield Finding(
            "finite gradients",
            "error",
            found,
            "guard both branches of jnp.where, and powers and roots at 0",
        )


def _second(logdensity: AbstractLogDensity, point: Vector) -> Finding:
    """Check for a second derivative."""
    if has_second_derivative(logdensity, point):
        return Finding("second derivative", "ok", "finite, for training through the force")
    remedy = (
        "training will hold the force constant; the kernel stays exact. "
        "Avoid while loops and callbacks"
    )
    return Finding("second derivative", "warning", "missing or not finite", remedy)


def _differences(logdensity: AbstractLogDensity, points: np.ndarray) -> Finding:
    """Check directional derivatives against central differences, in double precision."""
    name = "gradient against finite differences"
    directions = np.random.default_rng(0).normal(size=points.shape)
    directions /= np.linalg.norm(directions, axis=0)
    with precision_context("float64"):
        x = jnp.asarray(points)
        dtype = np.asarray(logdensity(x)).dtype
        step = 1e-5 if dtype == np.float64 else 1e-2
        up, down = (
            np.asarray(logdensity(x + sign * step * directions), np.float64) for sign in (1, -1)
        )
        slope = np.sum(
            np.asarray(value_and_grad(logdensity, x)[1], np.float64) * directions, axis=0
        )
        scale = np.abs(np.asarray(logdensity(x), np.float64))
    numeric = (up - down) / (2 * step)
    noise = np.finfo(dtype).eps * (scale + 1) / step
    finite = np.isfinite(numeric) & np.isfinite(slope)
    if not finite.any():
        return Finding(name, "warning", "no point where both exist", "check the support")
    error = (
        np.abs(numeric - slope)[finite]
        / (np.abs(slope) + np.abs(numeric) + 1e-3 + 1e3 * noise)[finite]
    )
    typical, worst = float(np.median(error)), float(np.max(error))
    found = f"relative difference {typical:.1e} at the median point, {worst:.1e} at the worst"
    if typical > 1e-2:
        return Finding(
            name, "error", found, "a custom derivative or stop_gradient in the log density is wrong"
        )
    if worst > 1e-2:
        remedy = (
            "a derivative that is wrong in places, or kinks: HMC-like kernels lose acceptance there"
        )
        return Finding(name, "warning", found, remedy)
    return Finding(name, "ok", found)


def _precision(logdensity: AbstractLogDensity, points: np.ndarray) -> Finding:
    """Check the rounding error of single precision in differences of log density.

    In a computation in float64 it says only that float32 would not do.
    """
    name = "float32 against float64"
    in_double = points.dtype == np.float64
    with precision_context("float32"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # JAX warns of the density's own float64 data
        single = np.asarray(eqx.filter_jit(logdensity)(jnp.asarray(points)), np.float64)
    with precision_context("float64"):
        double = np.asarray(
            eqx.filter_jit(logdensity)(jnp.asarray(points.astype(np.float32), jnp.float64))
        )
    finite = np.isfinite(single) & np.isfinite(double)
    if double.dtype != np.float64:
        return Finding(
            name,
            "warning",
            f"returns {double.dtype} for float64",
            "compute in the position's dtype",
        )
    if np.any(np.isfinite(single) != np.isfinite(double)):
        lost = int(np.sum(np.isfinite(single) != np.isfinite(double)))
        found = f"finite in one but not the other at {lost} points"
        if in_double:
            return Finding(name, "warning", found, f"never take float32; {_TAKE_FLOAT64}")
        return Finding(name, "error", found, _TAKE_FLOAT64)
    difference = (single - double)[finite]
    error = float(np.sqrt(2) * np.std(difference)) if difference.size > 1 else 0.0
    magnitude = float(np.median(np.abs(double[finite])))
    found = f"log ratios differ by {error:.1e} (rms), |log density| is about {magnitude:.2g}"
    if error > 1e-2:
        return Finding(
            name,
            "warning",
            found,
            f"{_TAKE_FLOAT64}: in float32 acceptance is rounded by more than 1 %",
        )
    return Finding(name, "ok", found)


def _reversibility(logdensity: AbstractLogDensity, points: Vector, key: Key) -> Finding:
    """Check that a random learned kernel returns to the start, applied forward, then backward."""
    name = "there and back with a learned kernel"
    dim = points.shape[0]
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        dynamics = learned_leapfrog(
            key, dim=dim, num_leapfrogs=5, step_size=0.01, dtype=points.dtype
        )
        transition = Transition(logdensity, dynamics)
        state = state_at(logdensity, points)
        momentum = jax.random.normal(
            jax.random.fold_in(key, 1), (points.shape[1], dim), points.dtype
        ).T
        start, ahead = Phase(points, momentum, *state[1:]), jnp.ones(points.shape[1], bool)
        end, log_det = transition.dynamics(logdensity, start, ahead)
        back, back_log_det = transition.dynamics(logdensity, end, ~ahead)
    scale = np.maximum(np.abs(np.asarray(points)).max(axis=0), 1)
    error = np.abs(np.asarray(back.position - points)).max(axis=0) / scale + np.abs(
        np.asarray(log_det + back_log_det)
    )
    finite = error[np.isfinite(error)]
    if not finite.size:
        return Finding(
            name,
            "warning",
            "no trajectory stayed finite",
            "rescale the parameters to about unit size",
        )
    worst = float(finite.max())
    found = f"back at the start to {worst:.1e}" + (
        "" if finite.size == error.size else ", where finite"
    )
    if worst > 1e-2:
        return Finding(
            name,
            "error",
            found,
            f"{_TAKE_FLOAT64}; or rescale the parameters: the force is too stiff",
        )
    return Finding(
        name,
        "warning" if worst > 1e-4 else "ok",
        found,
        _TAKE_FLOAT64 if worst > 1e-4 else "",
    )


def _cost(logdensity: AbstractLogDensity, dim: int) -> Finding:
    """Time per gradient and chain, and time to compile."""
    points = jnp.zeros((dim, _NUM_CHAINS))
    gradient: Callable = jax.jit(lambda x: value_and_grad(logdensity, x)[1])
    start = time.perf_counter()
    jax.block_until_ready(gradient(points))
    first = time.perf_counter() - start
    best = min(_timed(gradient, points) for _ in range(5))
    found = (
        f"{1e6 * best / _NUM_CHAINS:.3g} µs per gradient and chain "
        f"({_NUM_CHAINS} chains at once), compiled in {first:.2g} s"
    )
    return Finding("cost", "ok", found)


def _timed(function: Callable, argument: Vector) -> float:
    """Seconds that one call takes."""
    start = time.perf_counter()
    jax.block_until_ready(function(argument))
    return time.perf_counter() - start
