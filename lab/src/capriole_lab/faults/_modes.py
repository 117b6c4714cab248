"""The experiment: is a mode missed, and does the verdict say so?"""

import json
import os
import platform
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from capriole.adaptation import explore, search_modes
from capriole.fitting import fit
from capriole.models import versions
from capriole.runtime import to_plain, write_atomically
from capriole.sampling import prepare

from ._cases import CASES, TOO_FEW, ModeCase

CHAINS, MORE = 64, 192
"""Chains of the warm-up, and exploratory ones, that `capriole.fit` has by default."""


def judge_search(case: ModeCase, seed: int) -> dict[str, Any]:
    """The warm-up and the search for modes alone, with the keys that `fit` gives them.

    A mode counts as met if a chain sits in it at the end, or the search weighed it.

    Args:
        case: The case.
        seed: The seed.

    Returns:
        Plain values.
    """
    begin = time.perf_counter()
    root = jax.random.key(seed)
    keys = [jax.random.fold_in(root, i) for i in range(2)]
    target, position = prepare(
        case.logdensity,
        np.zeros(case.dim),
        keys[0],
        num_chains=CHAINS,
        num_more=MORE,
        spread=case.spread,
    )
    warmup = explore(keys[1], target, position, num_chains=CHAINS)
    found = search_modes(jax.random.fold_in(keys[1], 2000), target, position, warmup)
    by_chains = set(case.label(np.asarray(warmup.position).T).tolist())
    by_search = {int(case.label(np.array(mode.centre))) for mode in found.weighed}
    every = set(range(len(case.weights)))
    return {
        "seed": seed,
        "missed_by_chains": by_chains != every,
        "missed": (by_chains | by_search) != every,
        "chains_agreed": warmup.agreed,
        "agreed": found.agreed,
        "false_alarm": len(every) == 1 and warmup.agreed and not found.agreed,
        "silent": (by_chains | by_search) != every and found.agreed,
        "shares": {
            str(int(case.label(np.array(mode.centre)))): mode.share for mode in found.weighed
        },
        "warmup_gradients": warmup.num_gradients,
        "search": to_plain(found.search),
        "seconds": time.perf_counter() - begin,
    }


def judge_fit(case: ModeCase, seed: int) -> dict[str, Any]:
    """A whole fit with the defaults, its draws held against the exact weights of the modes.

    Draws are wrong if a weight differs from the truth by a factor of two, which no mode does that
    is visited as it should be.

    Args:
        case: The case.
        seed: The seed.

    Returns:
        Plain values.
    """
    begin = time.perf_counter()
    found = fit(case.logdensity, np.zeros(case.dim), spread=case.spread, seed=seed, compare=False)
    draws = np.asarray(found.tree["posterior"]["x"].values, np.float64)
    label = case.label(draws)
    weights = [float(np.mean(label == k)) for k in range(len(case.weights))]
    off = np.abs(np.log(np.maximum(weights, 1e-9)) - np.log(case.weights))
    missed, verdict = bool(np.max(off) > TOO_FEW), found.verdict
    return {
        "seed": seed,
        "missed": missed,
        "failed": verdict.failed,
        "silent": missed and not verdict.failed,
        "weights": weights,
        "chosen": verdict.chosen,
        "problems": [problem.kind.value for problem in verdict.problems],
        "preparation_gradients": verdict.settings["preparation"]["num_gradients"],
        "seconds": time.perf_counter() - begin,
    }


def run_modes(
    names: Iterable[str],
    *,
    seeds: int,
    fits: int,
    out: Path,
    report: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Every case at seeds 0, 1, ...; what is stored already is not run again.

    Args:
        names: Keys of `CASES`; all of them if there are none.
        seeds: Seeds of the search stage.
        fits: Seeds of whole fits.
        out: Folder of the stored files, one for each case and `modes.json` with the counts.
        report: Told a line after each case.

    Returns:
        The counts, see `summarise`.

    Raises:
        ValueError: A case is unknown.
    """
    wanted = list(names) or list(CASES)
    for name in wanted:
        if name not in CASES:
            raise ValueError(f"no case {name!r}: choose from {', '.join(CASES)}")
    for name in wanted:
        path, case = out / f"modes-{name}.json", CASES[name]
        stored = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        record = _title(name, case) | {
            "searches": _gone_on(judge_search, case, stored.get("searches", []), seeds),
            "fits": _gone_on(judge_fit, case, stored.get("fits", []), fits),
        }
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(path, (json.dumps(record, indent=1) + "\n").encode())
        report(f"{name}: {_count(record)}")
    return summarise(out)


def _gone_on(
    judge: Callable[[ModeCase, int], dict[str, Any]],
    case: ModeCase,
    stored: list[dict[str, Any]],
    num: int,
) -> list[dict[str, Any]]:
    done = {each["seed"] for each in stored}
    return stored + [judge(case, seed) for seed in range(num) if seed not in done]


def _title(name: str, case: ModeCase) -> dict[str, Any]:
    return {
        "case": name,
        "summary": case.summary,
        "dim": case.dim,
        "spread": case.spread,
        "weights": case.weights.tolist(),
        "within_reach": case.within_reach,
        "judged": "searches: warm-up and search for modes alone; fits: whole fits, compare=False",
        "versions": versions() | {"python": platform.python_version()},
        "cores": os.cpu_count(),
        "dtype": str(jax.numpy.zeros(()).dtype),
    }


def _count(record: dict[str, Any]) -> dict[str, Any]:
    searches, fits = record["searches"], record["fits"]
    return {
        "searches": len(searches),
        "missed_by_chains": sum(each["missed_by_chains"] for each in searches),
        "missed_by_search": sum(each["missed"] for each in searches),
        "silent_searches": sum(each["silent"] for each in searches),
        "false_alarms": sum(each["false_alarm"] for each in searches),
        "search_gradients": _median([each["search"]["num_gradients"] for each in searches]),
        "warmup_gradients": _median([each["warmup_gradients"] for each in searches]),
        "fits": len(fits),
        "missed_by_fits": sum(each["missed"] for each in fits),
        "failed_fits": sum(each["failed"] for each in fits),
        "silent_fits": sum(each["silent"] for each in fits),
        "preparation_gradients": _median([each["preparation_gradients"] for each in fits]),
    }


def _median(values: list[float]) -> float | None:
    return float(np.median(values)) if values else None


def summarise(out: Path) -> dict[str, Any]:
    """Counts of all stored cases, written to `modes.json`.

    Args:
        out: Folder of the stored files.

    Returns:
        The counts by case.
    """
    stored = {path.stem: json.loads(path.read_text("utf-8")) for path in out.glob("modes-*.json")}
    order = [f"modes-{name}" for name in CASES]
    counts = {stored[key]["case"]: _count(stored[key]) for key in order if key in stored}
    write_atomically(out / "modes.json", (json.dumps(counts, indent=1) + "\n").encode())
    return counts
