"""Sizes, lengths and budgets of a run, with three presets."""

from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from ..cells import check_known

SCHEME_NAMES = ("elbo", "hmc", "l2hmc")


@dataclass(frozen=True)
class Settings:
    """Everything that a run can vary. Defaults are the paper's where it says, but for ``objective``
    and ``frame``.

    The paper's kernel has the objective ``paper`` and the frame ``none``, hence no ``guide`` nor
    ``rotation``, and starts from ``step_size``. The steps of all schemes may spend equal numbers of
    gradients of the decoder: the VAE's, which are cheap, through more epochs (``elbo_epochs``);
    HMC's tuning comes on top. The VAE has a batch of its own as well (``elbo_batch``). The last
    ``validation_images`` of the training set are kept out of it; quick AIS on them every
    ``curve_every`` epochs (VAE: ``elbo_curve_every``) with ``curve_temperatures`` draws figure 2's
    curves and chooses the epoch whose model is kept. The table comes from the ``ais_`` settings.
    ``objective`` is ``paper``, ``log_jump`` or ``log_esjd``.

    HMC makes ``num_transitions`` of ``num_leapfrogs``, the learned kernel ``kernel_transitions`` of
    ``kernel_leapfrogs``, in the ``frame`` of a ``guide`` that learns, in that of the ``curvature``
    of the decoder, from its ``curvature_pixels`` least certain pixels, or in units of q (``none``).
    The ``refit_`` settings fit a kernel anew to the finished decoder. In-painting is judged by
    ``inpaint_chains`` chains per image of an exact sampler.
    """

    dataset: str = "mnist"
    latent: int = 50
    hidden: int = 1024
    width: int = 200
    embedding: int = 512
    guide: int = 512
    batch: int = 512
    elbo_batch: int = 512
    epochs: int = 300
    elbo_epochs: int = 8400
    learning_rate: float = 1e-3
    encoder_learning_rate: float = 1e-3
    elbo_learning_rate: float = 1e-3
    kernel_learning_rate: float = 1e-3
    rotation: float = 1.5707963
    frame: str = "guide"
    curvature_pixels: int = 128
    kernel_transitions: int = 5
    kernel_leapfrogs: int = 5
    clip: float = 5.0
    objective: str = "log_jump"
    num_transitions: int = 5
    num_leapfrogs: int = 5
    step_size: float = 0.1
    tuning_images: int = 64
    validation_images: int = 5000
    curve_every: int = 25
    elbo_curve_every: int = 300
    curve_images: int = 100
    curve_temperatures: int = 200
    curve_chains: int = 8
    curve_leapfrogs: int = 5
    ais_images: int = 1000
    ais_train_images: int = 1000
    ais_temperatures: int = 2000
    ais_chains: int = 20
    ais_leapfrogs: int = 10
    simulated_images: int = 100
    importance_samples: int = 1000
    refit_steps: int = 1000
    refit_batch: int = 100
    refit_transitions: int = 10
    sampling_images: int = 50
    sampling_chains: int = 8
    sampling_steps: int = 4000
    inpaint_images: int = 200
    inpaint_sweeps: int = 500
    inpaint_transitions: int = 5
    inpaint_chains: int = 16
    classifier_epochs: int = 10
    posterior_chains: int = 512
    posterior_steps: int = 20000
    shape_images: int = 100
    shape_chains: int = 64
    shape_steps: int = 2000
    seeds: int = 3

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for config.json."""
        return asdict(self)

    def epochs_of(self, scheme: str) -> int:
        """Epochs that a scheme trains for."""
        return self.elbo_epochs if scheme == "elbo" else self.epochs

    def batch_of(self, scheme: str) -> int:
        """Images in a minibatch: a sampler's steps are dear, and small batches serve them."""
        return self.elbo_batch if scheme == "elbo" else self.batch

    def training_of(self, scheme: str) -> dict[str, Any]:
        """What the training of a scheme depends on; the rest may change when it goes on."""
        unused = {*_UNUSED[scheme], *_UNUSED_IN.get(self.frame, ())}
        if scheme == "l2hmc" and self.frame == "none":
            unused.remove("step_size")
        return {
            n: v for n, v in asdict(self).items() if not n.startswith(_JUDGING) and n not in unused
        }

    def named(self, beginnings: tuple[str, ...]) -> dict[str, Any]:
        """The settings whose names begin so."""
        return {name: value for name, value in asdict(self).items() if name.startswith(beginnings)}

    def learning_rates_of(self, scheme: str) -> tuple[float, float]:
        """Of encoder and decoder: a VAE's are equal, else its latents collapse."""
        if scheme == "elbo":
            return self.elbo_learning_rate, self.elbo_learning_rate
        return self.encoder_learning_rate, self.learning_rate

    def curve_every_of(self, scheme: str) -> int:
        """Epochs between two points of a scheme's curve."""
        return self.elbo_curve_every if scheme == "elbo" else self.curve_every


_JUDGING = (
    "ais_", "simulated_", "importance_", "refit_", "sampling_", "inpaint_", "classifier_",
    "posterior_", "shape_", "seeds",
)  # fmt: skip
_OF_ELBO = ("elbo_batch", "elbo_epochs", "elbo_curve_every", "elbo_learning_rate")
_OF_SAMPLERS = ("batch", "epochs", "curve_every", "learning_rate", "encoder_learning_rate")
_OF_HMC = ("num_transitions", "num_leapfrogs", "step_size", "tuning_images")
_OF_KERNEL = (
    "width", "embedding", "guide", "kernel_learning_rate", "clip", "objective", "rotation", "frame",
    "curvature_pixels", "kernel_transitions", "kernel_leapfrogs",
)  # fmt: skip
_UNUSED = {
    "elbo": (*_OF_SAMPLERS, *_OF_HMC, *_OF_KERNEL),
    "hmc": (*_OF_ELBO, *_OF_KERNEL),
    "l2hmc": (*_OF_ELBO, *_OF_HMC),
}

_UNUSED_IN = {
    "guide": ("curvature_pixels",),
    "curvature": ("guide",),
    "none": ("guide", "rotation", "curvature_pixels"),
}
_AT_LEAST_TWO = {
    "ais_images", "ais_train_images", "simulated_images", "inpaint_images", "inpaint_chains",
    "shape_images",
}  # fmt: skip

_BY_PRESET: dict[str, dict[str, Any]] = {
    "smoke": {
        "dataset": "digits", "latent": 4, "hidden": 32, "width": 16, "embedding": 16, "guide": 16,
        "batch": 100, "elbo_batch": 100, "epochs": 2, "elbo_epochs": 2, "num_transitions": 2,
        "num_leapfrogs": 3, "kernel_transitions": 2, "kernel_leapfrogs": 3, "tuning_images": 16,
        "validation_images": 100, "curve_every": 1, "elbo_curve_every": 1, "curve_images": 10,
        "curve_temperatures": 20, "curve_chains": 4, "curve_leapfrogs": 3, "ais_images": 10,
        "ais_train_images": 10, "ais_temperatures": 20, "ais_chains": 4, "ais_leapfrogs": 3,
        "simulated_images": 10, "importance_samples": 20, "refit_steps": 5, "refit_batch": 10,
        "refit_transitions": 2, "sampling_images": 4, "sampling_chains": 4, "sampling_steps": 40,
        "inpaint_images": 6, "inpaint_sweeps": 10, "inpaint_transitions": 1, "inpaint_chains": 4,
        "classifier_epochs": 5, "posterior_chains": 16, "posterior_steps": 40, "shape_images": 5,
        "shape_chains": 8, "shape_steps": 40, "seeds": 1,
    },
    "laptop": {
        "dataset": "mnist-10k", "latent": 20, "hidden": 200, "width": 64, "embedding": 128,
        "guide": 200, "batch": 64, "elbo_batch": 250, "epochs": 92, "elbo_epochs": 1196,
        "learning_rate": 2e-3, "num_transitions": 2, "kernel_transitions": 2,
        "validation_images": 500, "curve_every": 23, "elbo_curve_every": 299,
        "curve_temperatures": 200, "curve_chains": 4, "curve_leapfrogs": 3, "ais_images": 300,
        "ais_train_images": 50, "ais_temperatures": 400, "ais_chains": 8, "ais_leapfrogs": 3,
        "simulated_images": 25, "importance_samples": 500, "refit_steps": 200, "refit_batch": 50,
        "sampling_images": 20, "sampling_steps": 1000, "inpaint_images": 200, "inpaint_sweeps": 200,
        "posterior_steps": 2000, "shape_images": 100, "shape_chains": 16, "shape_steps": 500,
    },
    "paper": {},
}  # fmt: skip


def settings_for(preset: str = "laptop", **overrides: Any) -> Settings:
    """Settings of a preset with overrides (None: keep). Raises ValueError for unknown ones."""
    check_known(preset, _BY_PRESET, "preset")
    chosen = {name: value for name, value in overrides.items() if value is not None}
    return settings_from(_BY_PRESET[preset] | chosen)


def settings_from(values: dict[str, Any]) -> Settings:
    """Settings from plain values over the defaults, e.g. out of a config.json.

    Raises ValueError for an unknown name, a number that is not positive, or one where a standard
    error needs two.
    """
    known = {field.name for field in fields(Settings)}
    if unknown := set(values) - known:
        raise ValueError(f"unknown settings {sorted(unknown)}; known are {sorted(known)}")
    for name, value in values.items():
        if not isinstance(value, str) and not value > 0:
            raise ValueError(f"{name} must be positive, got {value}")
        if name in _AT_LEAST_TWO and not value > 1:
            raise ValueError(f"{name} must be at least 2, for a standard error, got {value}")
    return replace(Settings(), **values)
