"""What the peers bench runs on, who takes part, and how much of it: data."""

from dataclasses import dataclass
from typing import Any

from ..baselines import PEERS
from ..cells import check_known, preset_of
from ..targets import MODELS, POSTERIORS, PosteriordbError, find_posteriordb

TOY = ("scg", "icg", "mog", "mog-asym", "rougher-well", "funnel")
REAL = ("logistic", *sorted(MODELS), *POSTERIORS)
BENCH_TARGETS = TOY + REAL
SETS = {"toy": TOY, "real": REAL, "posteriordb": tuple(POSTERIORS)}
"""Names that stand for several targets on the command line."""

OURS = "capriole"
SAMPLERS = (OURS, *PEERS)
DEFAULT_SAMPLERS = (OURS, "nuts", "nuts-dense", "chees", "mclmc")


@dataclass(frozen=True)
class PeersSettings:
    """The budget of one cell.

    Every sampler draws ``num_draws`` from each of ``num_chains``; while R-hat fails but may be
    mended by 4 or 16 times as many, once more as long, within ``max_gradients`` of sampling and
    ``max_values`` numbers in memory. ``crowd_chains`` are those of samplers that adapt over all
    chains. Only the first ``coordinates`` (None: all) are judged: the funnel's others have no
    moments whose errors could be known.
    """

    dtype: str = "float64"
    num_chains: int = 16
    crowd_chains: int = 64
    num_draws: int = 1000
    num_warmup: int = 1000
    train_steps: int = 3000
    coordinates: int | None = None
    max_gradients: float = 1e9
    max_values: float = 6e7

    def chains(self, sampler: str) -> int:
        """Chains of a sampler."""
        return self.crowd_chains if sampler in ("chees", OURS) else self.num_chains


_SINGLE = {"dtype": "float32"}
_BY_TARGET: dict[str, dict[str, Any]] = dict.fromkeys((*TOY, "logistic"), _SINGLE) | {
    "funnel": _SINGLE | {"coordinates": 1}
}

_BY_PRESET: dict[str, dict[str, Any]] = {
    "smoke": {
        "num_chains": 8, "crowd_chains": 16, "num_draws": 100, "num_warmup": 50, "train_steps": 0,
        "max_gradients": 0.0,
    },
    "laptop": {},
    "paper": {"num_draws": 2000, "train_steps": 10000, "max_gradients": 1e10, "max_values": 2e8},
}  # fmt: skip


def peers_settings(target: str, preset: str = "laptop") -> PeersSettings:
    """The budget of a target under a preset. Raises ValueError for unknown ones."""
    check_known(target, BENCH_TARGETS, "target of the peers bench")
    return preset_of(PeersSettings(), _BY_PRESET, preset, _BY_TARGET.get(target, {}))


def chosen_targets(names: list[str]) -> tuple[list[str], str]:
    """Targets by name or by set (`SETS`), all of them for no names; and a remark on what had to be
    left out.

    Without a checkout of posteriordb its posteriors are left out unless they were named. Raises
    ValueError for unknown names.
    """
    expanded = [name for given in (names or ["toy", "real"]) for name in SETS.get(given, (given,))]
    for name in expanded:
        check_known(name, BENCH_TARGETS, "target of the peers bench")
    try:
        find_posteriordb()
    except PosteriordbError as error:
        optional = set(POSTERIORS) - set(names)
        kept = [name for name in expanded if name not in optional]
        return list(
            dict.fromkeys(kept)
        ), f"without the posteriors of posteriordb: {error}" if kept != expanded else ""
    return list(dict.fromkeys(expanded)), ""


def chosen_samplers(names: list[str]) -> list[str]:
    """Samplers by name, the default ones for none. Raises ValueError for unknown names."""
    for name in names:
        check_known(name, SAMPLERS, "sampler")
    return list(dict.fromkeys(names)) or list(DEFAULT_SAMPLERS)
