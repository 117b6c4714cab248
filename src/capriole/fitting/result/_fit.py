"""The result of `capriole.fit`, and what is raised where it failed."""

import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ...diagnostics import fatal
from ...kernels import AbstractTransition
from .._verdict import Verdict

if TYPE_CHECKING:
    import xarray

log = logging.getLogger("capriole")

ON_FAILURE = ("warn", "raise", "ignore")
"""What `fit` may do where its draws must not be used."""
_LIBRARY = str(Path(__file__).parents[2])
"""Where the library is: a warning names the line of whoever called it."""


class Fit(NamedTuple):
    """What `fit` returns.

    Attributes:
        tree: Draws as an ArviZ DataTree.
        verdict: What they and the kernel are worth.
        transition: The frozen kernel; None where NUTS drew.
    """

    tree: "xarray.DataTree"
    verdict: Verdict
    transition: AbstractTransition | None

    def summary(self, **options: Any) -> Any:
        """Mean, standard deviation, interval, ESS and R-hat of every variable.

        Args:
            **options: Arguments of `arviz_stats.summary`, such as ``var_names`` or ``round_to``.

        Returns:
            A pandas DataFrame with one row for each number of the posterior.
        """
        import arviz_stats

        return arviz_stats.summary(self.tree, **options)

    def __repr__(self) -> str:
        """What was drawn, of what, by what, and whether it may be used."""
        return f"<capriole.Fit: {self._title}\n{self.verdict.recommendation}>"

    @property
    def _title(self) -> str:
        posterior = self.tree["posterior"]
        variables = ", ".join(
            f"{name}{list(array.shape[2:]) if array.ndim > 2 else ''}"
            for name, array in posterior.data_vars.items()
        )
        sizes = f"{posterior.sizes['chain']} chains of {posterior.sizes['draw']} draws"
        return f"{sizes} by the {self.verdict.chosen}, {self.verdict.status}; of {variables}"

    def _repr_html_(self) -> str:
        """The verdict, and the draws to unfold below it."""
        from html import escape

        return (
            f"<div><p><b>capriole.Fit</b>: {escape(self._title)}</p>{self.verdict._repr_html_()}"
            f"<details><summary>Draws</summary>{self.tree._repr_html_()}</details></div>"
        )


class FitFailedWarning(UserWarning):
    """A fit whose draws must not be used."""


class FitFailedError(RuntimeError):
    """A fit whose draws must not be used.

    Attributes:
        fit: The `Fit` all the same, to see what went wrong.
    """

    def __init__(self, message: str, fit: Fit):
        super().__init__(message)
        self.fit = fit


def check_on_failure(on_failure: Any) -> None:
    """Raise ValueError unless ``on_failure`` is one of `ON_FAILURE`."""
    if not (isinstance(on_failure, str) and on_failure in ON_FAILURE):
        raise ValueError(f"on_failure must be 'warn', 'raise' or 'ignore', got {on_failure!r:.80}")


def told_of_failure(found: Fit, on_failure: str) -> Fit:
    """The fit itself, after its failure, if it failed, was warned of and logged, or raised.

    Args:
        found: Any fit.
        on_failure: One of `ON_FAILURE`.

    Raises:
        FitFailedError: It failed, and ``on_failure`` is "raise".
    """
    if not found.verdict.failed or on_failure == "ignore":
        return found
    first, *others = fatal(found.verdict.problems)
    more = f" (and {len(others)} more: see .verdict)" if others else ""
    text = f"the fit failed, do not use its draws: {first}{more}"
    if on_failure == "raise":
        raise FitFailedError(text, found)
    log.warning(text)
    warnings.warn(text, FitFailedWarning, skip_file_prefixes=(_LIBRARY,))
    return found
