"""Log densities in, kernels out: pytrees, checks, the doctor, kernel files."""

from ._checks import (
    check_count,
    check_dtype,
    check_logdensity,
    check_spread,
    check_starts,
    trainable,
)
from ._doctor import examine
from ._kernel_files import KernelFileError, load, save, versions
from ._pytrees import as_logdensity, named_arrays

__all__ = [
    "KernelFileError",
    "as_logdensity",
    "check_count",
    "check_dtype",
    "check_logdensity",
    "check_spread",
    "check_starts",
    "examine",
    "load",
    "named_arrays",
    "save",
    "trainable",
    "versions",
]
