"""Users' log densities in, kernels out: checks, pytrees, a diagnosis, and kernel files.

Read the files in this order: `_model` (a log density with names), `makers` (models from other
libraries and of bounded parameters), `_pytrees` (a user's function as a log density), `_prepared`
(what it is, remembered), `_checks` (of arguments and starts), `_doctor` (the diagnosis),
`_kernel_files` (save and load) and `_kernel_records` (what a kernel file holds).
"""

from ._checks import (
    NUMPYRO_REMEDY,
    check_count,
    check_dtype,
    check_logdensity,
    check_spread,
    check_starts,
    is_numpyro_model,
    trainable,
)
from ._doctor import diagnose_logdensity
from ._kernel_files import load, save, versions
from ._kernel_records import KernelFileError, kernel_precision
from ._model import Model, ModelError, leaf_names, named
from ._prepared import check_compiled, check_unchanged, dtype_of, prepared
from ._pytrees import (
    as_logdensity,
    as_model,
    dimension_names,
    flat_starts,
    in_default_float,
    labels,
    model_of,
    model_precision,
    named_arrays,
    same_structure,
)
from .makers import (
    Support,
    circular,
    constrained,
    from_numpyro,
    from_pymc,
    from_stan,
    interval,
)

__all__ = [
    "NUMPYRO_REMEDY",
    "KernelFileError",
    "Model",
    "ModelError",
    "Support",
    "as_logdensity",
    "as_model",
    "check_compiled",
    "check_count",
    "check_dtype",
    "check_logdensity",
    "check_spread",
    "check_starts",
    "check_unchanged",
    "circular",
    "constrained",
    "diagnose_logdensity",
    "dimension_names",
    "dtype_of",
    "flat_starts",
    "from_numpyro",
    "from_pymc",
    "from_stan",
    "in_default_float",
    "interval",
    "is_numpyro_model",
    "kernel_precision",
    "labels",
    "leaf_names",
    "load",
    "model_of",
    "model_precision",
    "named",
    "named_arrays",
    "prepared",
    "same_structure",
    "save",
    "trainable",
    "versions",
]
