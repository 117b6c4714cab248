"""Section 5.2 in one call: schemes, seeds, stages, report. Interrupted, it goes on."""

from collections.abc import Callable
from pathlib import Path

from capriole.runtime import Progress

from ._settings import SCHEME_NAMES, Settings
from ._stages import (
    burn_in_stage,
    evaluate_stage,
    inpaint_stage,
    posterior_stage,
    sampling_stage,
    train_stage,
)
from .files._data import Dataset
from .files._folder import check_alike
from .report._report import write_report


def run_paper(
    settings: Settings,
    data: Dataset,
    folder: Path,
    *,
    progress: Callable[[Progress], None] | None = None,
) -> Path:
    """Train and evaluate every scheme with every seed; in-paint and sample posteriors with the
    first seed's models.

    Each model lives in ``folder/<scheme>-<seed>``. What is there already is not done again. The
    report is written after every seed, so that a run that is stopped leaves one on the seeds that
    are complete. Returns the report. Raises `CheckpointError`, before anything is trained, if a
    folder holds a model that was trained otherwise.
    """
    for seed in range(settings.seeds):
        for scheme in SCHEME_NAMES:
            check_alike(folder / f"{scheme}-{seed}", scheme, settings, seed)
    for seed in range(settings.seeds):
        for scheme in SCHEME_NAMES:
            place = folder / f"{scheme}-{seed}"
            model = train_stage(scheme, settings, data, seed=seed, folder=place, progress=progress)
            evaluate_stage(model, data, progress=progress)
            if scheme != "elbo":
                burn_in_stage(model, data)
            if seed == 0:
                inpaint_stage(model, data, progress=progress)
            if seed == 0 and scheme == "l2hmc":
                sampling_stage(model, data)
                posterior_stage(model, data)
        report = write_report(folder, data)
    return report
