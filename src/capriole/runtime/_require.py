"""Optional packages: a clear error where one is needed and missing."""

import importlib.util

_NEEDS = {
    "runs": "run folders need",
    "cli": "the command line needs",
    "plots": "plots need",
    "numpyro": "NumPyro models need",
    "pymc": "PyMC models need",
    "stan": "Stan models need",
}


def require(package: str, extra: str) -> None:
    """Check that an optional package is installed, without importing it.

    Args:
        package: the module's name, such as ``zarr``.
        extra: the extra of capriole that installs the package: ``runs``, for example.

    Raises:
        ImportError: the package is missing; the message says how to install it.
    """
    if importlib.util.find_spec(package) is None:
        name = package.replace("_", "-")
        raise ImportError(f"{_NEEDS[extra]} {name}: pip install 'capriole[{extra}]'", name=package)
