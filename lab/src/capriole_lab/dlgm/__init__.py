"""Latent-variable models trained with a learned sampler (Levy et al. 2018, section 5.2).

`Encoder`, `Decoder` and `LatentPosterior` are the model; `elbo_step`, `hmc_step` and `l2hmc_step`
the three ways to train it; `plan_ais`, `run_ais` and `run_reverse_ais` its judge. The stages put
them together, one folder per model.
"""

from ._curvature import Curved
from ._guide import Guide, Guided
from ._kernel import ImageNetwork, image_leapfrog
from ._model import (
    Decoder,
    Diagonal,
    Encoder,
    Feedforward,
    ImageLikelihood,
    LatentPosterior,
    log_bernoulli,
)
from ._paper import run_paper
from ._refit import Refitted, refit_kernel
from ._schemes import (
    DLGMState,
    Model,
    Recipe,
    StepMetrics,
    elbo_step,
    hmc_step,
    init_state,
    l2hmc_step,
    posterior_kernel,
)
from ._settings import SCHEME_NAMES, Settings, settings_for
from ._stages import evaluate_stage, inpaint_stage, posterior_stage, train_stage
from ._train import build, gradients_per_image, train_dlgm, tune_step_size
from .files._data import DATASETS, Dataset, load_dataset
from .files._files import CheckpointError
from .files._folder import Loaded, load_model, settings_in
from .files._idx import DataError, parse_idx
from .measures._ais import (
    AISPlan,
    AISResult,
    plan_ais,
    run_ais,
    run_reverse_ais,
    sigmoid_schedule,
    weighted_draws,
)
from .measures._classify import Classifier, train_classifier
from .measures._evaluate import evaluate, importance_bound, log_likelihood, sandwich
from .measures._inpaint import (
    Inpainted,
    bottom_half,
    class_shares,
    inpaint,
    mixing,
    mixing_difference,
)
from .measures._posterior import (
    PosteriorDraws,
    Shape,
    draw_posterior,
    posterior_shape,
    shape_summary,
)
from .measures._true_classes import (
    ClassShares,
    Count,
    Reference,
    count_classes,
    counts,
    find_reference,
    shares_by_ais,
    total_variation,
)
from .report._report import write_report

__all__ = [
    "DATASETS",
    "SCHEME_NAMES",
    "AISPlan",
    "AISResult",
    "CheckpointError",
    "ClassShares",
    "Classifier",
    "Count",
    "Curved",
    "DLGMState",
    "DataError",
    "Dataset",
    "Decoder",
    "Diagonal",
    "Encoder",
    "Feedforward",
    "Guide",
    "Guided",
    "ImageLikelihood",
    "ImageNetwork",
    "Inpainted",
    "LatentPosterior",
    "Loaded",
    "Model",
    "PosteriorDraws",
    "Recipe",
    "Reference",
    "Refitted",
    "Settings",
    "Shape",
    "StepMetrics",
    "bottom_half",
    "build",
    "class_shares",
    "count_classes",
    "counts",
    "draw_posterior",
    "elbo_step",
    "evaluate",
    "evaluate_stage",
    "find_reference",
    "gradients_per_image",
    "hmc_step",
    "image_leapfrog",
    "importance_bound",
    "init_state",
    "inpaint",
    "inpaint_stage",
    "l2hmc_step",
    "load_dataset",
    "load_model",
    "log_bernoulli",
    "log_likelihood",
    "mixing",
    "mixing_difference",
    "parse_idx",
    "plan_ais",
    "posterior_kernel",
    "posterior_shape",
    "posterior_stage",
    "refit_kernel",
    "run_ais",
    "run_paper",
    "run_reverse_ais",
    "sandwich",
    "settings_for",
    "settings_in",
    "shape_summary",
    "shares_by_ais",
    "sigmoid_schedule",
    "total_variation",
    "train_classifier",
    "train_dlgm",
    "train_stage",
    "tune_step_size",
    "weighted_draws",
    "write_report",
]
