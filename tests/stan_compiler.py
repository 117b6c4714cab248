"""Stan programs compiled by what the httpstan wheel holds, Stan's compiler and headers, and g++.

`CompiledStan` has the methods of ``bridgestan.StanModel`` that `from_stan` calls. It is Stan itself
behind a small C++ file of our own, and not BridgeStan, whose sources are no Python package.
"""

import ctypes
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent / "stan_programs"
PROGRAMS = sorted(path.stem for path in FOLDER.glob("*.stan"))
SHIM = FOLDER / "shim.cpp"
# Names that every program's C++ defines at the top level.
SHARED = ("new_model", "get_stan_profile_data", "stan_model")


def can_compile():
    """Whether a compiler and the httpstan wheel are here."""
    return bool(shutil.which("g++") and importlib.util.find_spec("httpstan"))


@cache
def library():
    """All programs as one shared library: their headers take longest, and are read once."""
    home = Path(importlib.util.find_spec("httpstan").origin).parent
    files = (*sorted(FOLDER.glob("*.stan")), SHIM, Path(__file__))
    sources = [path.read_bytes() for path in files]
    digest = hashlib.sha256(b"".join(sources) + str(home).encode()).hexdigest()[:16]
    folder = Path(os.environ.get("CAPRIOLE_TEST_CACHE", tempfile.mkdtemp())) / f"stan-{digest}"
    built = folder / "programs.so"
    if not built.exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "programs.cpp").write_text("".join(map(unit, PROGRAMS)) + shim())
        for name in PROGRAMS:
            program = shutil.copy(FOLDER / f"{name}.stan", folder)  # stanc writes beside it
            called(home / "stanc", "--name", name, "--o", folder / f"{name}.hpp", program)
        partial = folder / f"programs.{os.getpid()}.part"
        called("g++", *flags(home), "-o", partial, folder / "programs.cpp", *links(home))
        partial.rename(built)
    return typed(ctypes.CDLL(str(built)))


def unit(name):
    """One program's C++ with names of its own."""
    own = "".join(f"#define {shared} {shared}_{name}\n" for shared in SHARED)
    return f'{own}#include "{name}.hpp"\n' + "".join(f"#undef {shared}\n" for shared in SHARED)


def shim():
    programs = " ".join(f"PROGRAM({name})" for name in PROGRAMS)
    return f"#define STAN_PROGRAMS {programs}\n{SHIM.read_text()}"


def flags(home):
    # The wheel's libraries have the old names of std::string.
    options = ["-O0", "-std=c++17", "-w", "-fPIC", "-shared", "-DSTAN_THREADS", "-D_REENTRANT"]
    options += ["-DBOOST_DISABLE_ASSERTS", "-D_GLIBCXX_USE_CXX11_ABI=0", f"-I{home / 'include'}"]
    return options


def links(home):
    names = ("sundials_cvodes", "sundials_idas", "sundials_nvecserial", "tbb")
    return [f"-L{home / 'lib'}", *(f"-l{name}" for name in names), f"-Wl,-rpath,{home / 'lib'}"]


def called(*command):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command[0]}: {done.stderr[-2000:]}"
    return done.stdout


def typed(compiled):
    array = np.ctypeslib.ndpointer(np.float64, flags="C_CONTIGUOUS")
    handle, text = ctypes.c_void_p, ctypes.c_char_p
    number = ctypes.POINTER(ctypes.c_double)
    for name, result, arguments in (
        ("stan_new", handle, [text, text]),
        ("stan_delete", None, [handle]),
        ("stan_error", text, []),
        ("stan_names", text, [handle]),
        ("stan_free_names", text, [handle]),
        ("stan_dim", ctypes.c_int, [handle]),
        ("stan_gradient", ctypes.c_int, [handle, array, number, array]),
        ("stan_constrain", ctypes.c_int, [handle, array, ctypes.c_uint, array]),
    ):
        function = getattr(compiled, name)
        function.restype, function.argtypes = result, arguments
    return compiled


class CompiledStan:
    """A program with data, behind BridgeStan's methods.

    Args:
        name: one of `PROGRAMS`.
        data: the program's data.
    """

    def __init__(self, name, data):
        self.data, self._name, self._stan = json.dumps(data), name, library()
        self._model = self._stan.stan_new(name.encode(), self.data.encode())
        if not self._model:
            raise RuntimeError(self._stan.stan_error().decode())

    def __del__(self):
        if getattr(self, "_model", None):
            self._stan.stan_delete(self._model)

    def name(self):
        return self._name

    def param_unc_num(self):
        return self._stan.stan_dim(self._model)

    def param_unc_names(self):
        return self._stan.stan_free_names(self._model).decode().split(",")

    def param_names(self, *, include_tp=False, include_gq=False):
        assert include_tp
        assert include_gq
        return self._stan.stan_names(self._model).decode().split(",")

    def new_rng(self, seed):
        return seed

    def param_constrain(self, theta_unc, *, include_tp=False, include_gq=False, rng=None):
        out = np.empty(len(self.param_names(include_tp=include_tp, include_gq=include_gq)))
        self._checked(self._stan.stan_constrain(self._model, theta_unc, rng, out))
        return out

    def log_density_gradient(self, theta_unc):
        value, gradient = ctypes.c_double(), np.empty(self.param_unc_num())
        found = self._stan.stan_gradient(self._model, theta_unc, ctypes.byref(value), gradient)
        self._checked(found)
        return value.value, gradient

    def log_density_hessian_vector_product(self, theta_unc, v):
        """By differences of gradients, as BridgeStan's without BRIDGESTAN_AD_HESSIAN."""
        step = 1e-5 / np.linalg.norm(v)
        up, down = (self.log_density_gradient(theta_unc + s * step * v)[1] for s in (1, -1))
        return self.log_density_gradient(theta_unc)[0], (up - down) / (2 * step)

    def _checked(self, failed):
        if failed:
            raise RuntimeError(self._stan.stan_error().decode())
