"""A kernel for NumPyro's ``MCMC``."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..kernels import AbstractTransition
from ..runtime import require

if TYPE_CHECKING:
    from ._numpyro_kernel import NumpyroKernel


def numpyro_kernel(
    model: Callable[..., Any], transition: AbstractTransition | None = None, **options: Any
) -> "NumpyroKernel":
    """A kernel for ``numpyro.infer.MCMC``, which draws with ``transition``.

    ``mcmc.run(key, *args, **kwargs)`` takes the model's arguments. Its warm-up adapts nothing: it
    is a run of the same kernel, whose draws are left out. Use ``chain_method="vectorized"``.

    Args:
        model: a function with NumPyro's primitives.
        transition: a frozen kernel for this model and its data, such as
            ``capriole.fit(...).transition``. None: the first run fits one, which later runs keep
            while the data are the same.
        **options: options of `capriole.fit`, where it is called.

    Returns:
        An ``MCMCKernel``. Its ``transition`` is the kernel, and ``found`` what `capriole.fit`
        returned.

    Raises:
        ImportError: NumPyro is missing.
    """
    require("numpyro", "numpyro")
    from ._numpyro_kernel import NumpyroKernel

    return NumpyroKernel(model, transition, options)
