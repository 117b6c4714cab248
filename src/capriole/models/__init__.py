"""Users' log densities in, kernels out: checks, pytrees, a diagnosis, and kernel files.

Read the files in this order: `_pytrees` (a user's function as a log density), `_prepared` (what
it is, remembered), `_checks` (of arguments and starts), `_doctor` (the diagnosis), `_kernel_files`
(save and load) and `_kernel_records` (what a kernel file holds).
"""

from ._checks import (
    check_count,
    check_dtype,
    check_logdensity,
    check_spread,
    check_starts,
    trainable,
)
from ._doctor import diagnose_logdensity
from ._kernel_files import load, save, versions
from ._kernel_records import KernelFileError, kernel_precision
from ._prepared import check_compiled, check_unchanged, dtype_of, prepared
from ._pytrees import as_logdensity, dimension_names, flat_starts, in_default_float, named_arrays

__all__ = [
    "KernelFileError",
    "as_logdensity",
    "check_compiled",
    "check_count",
    "check_dtype",
    "check_logdensity",
    "check_spread",
    "check_starts",
    "check_unchanged",
    "diagnose_logdensity",
    "dimension_names",
    "dtype_of",
    "flat_starts",
    "in_default_float",
    "kernel_precision",
    "load",
    "named_arrays",
    "prepared",
    "save",
    "trainable",
    "versions",
]
