"""The C++ files beside this one become a library that XLA can call, which is compiled once for each machine and kept.

It is compiled where it runs, because the kernels need the processor's widest vectors, which a wheel for all processors
could not use. Compiling takes 3 s with g++ 12 on 2 cores, once; later processes load the library in 30 ms.
"""

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from importlib import resources
from pathlib import Path
from typing import Any

import jax

from jaxinfl.files import cache_folder, replace_atomically

SOURCES = (
    "attention.cpp",
    "bias.cpp",
    "conv.cpp",
    "counts.cpp",
    "handlers.cpp",
    "layer_norm.cpp",
    "norm.cpp",
    "order.cpp",
    "overlap.cpp",
    "pairs.cpp",
    "product.cpp",
    "transpose.cpp",
)
HEADERS = (
    "attention.h",
    "bias.h",
    "call.h",
    "channels.h",
    "conv.h",
    "counts.h",
    "layer_norm.h",
    "norm.h",
    "order.h",
    "overlap.h",
    "product.h",
    "tiles.h",
    "transpose.h",
    "vectors.h",
)
TARGETS = (
    "jaxinfl_attention",
    "jaxinfl_attention_grad",
    "jaxinfl_conv_forward",
    "jaxinfl_conv_forward_bias",
    "jaxinfl_conv_forward_bias_relu",
    "jaxinfl_conv_forward_moments",
    "jaxinfl_conv_input_grad",
    "jaxinfl_conv_kernel_grad",
    "jaxinfl_channel_moments",
    "jaxinfl_channel_products",
    "jaxinfl_dense_kernel_grad",
    "jaxinfl_joint_counts",
    "jaxinfl_layer_norm",
    "jaxinfl_layer_norm_grad",
    "jaxinfl_overlap_of_models",
    "jaxinfl_overlap_int32_int32",
    "jaxinfl_overlap_int32_float32",
    "jaxinfl_overlap_float32_int32",
    "jaxinfl_overlap_float32_float32",
    "jaxinfl_random_order",
)
# The handlers only pass pointers on.
OPTIMIZATION = {name: "-O1" if name == "handlers.cpp" else "-O3" for name in SOURCES}
FLAGS = ("-std=c++17", "-fPIC", "-ffp-contract=fast", "-w")


class NativeUnavailable(RuntimeError):
    """The hand-written kernels cannot be used here; the message says why."""


def prepare() -> None:
    """Begin to compile the kernels in the background, if JAX runs on a CPU and this was not done before.

    The compiler runs in processes of its own, so that a model is built and traced on another core meanwhile. `load` waits
    until it is done.
    """
    if jax.default_backend() == "cpu":
        _compilation()


@functools.cache
def _compilation() -> Future[Path]:
    executor = ThreadPoolExecutor(1, thread_name_prefix="jaxinfl-native")
    compilation = executor.submit(_find_or_compile)
    executor.shutdown(wait=False)
    return compilation


@functools.cache
def load() -> None:
    """Compile the kernels, unless that was done before, and register them with JAX's CPU backend.

    Raises:
      NativeUnavailable: there is no C++ compiler, or it fails; the message quotes it.
    """
    path = _compilation().result()
    try:
        library = ctypes.cdll.LoadLibrary(str(path))
    except OSError as error:  # a folder from which nothing may be run
        raise NativeUnavailable(f"{path} cannot be loaded: {error}; set XDG_CACHE_HOME to another folder") from None
    for name in TARGETS:
        jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(getattr(library, name)), platform="cpu")


def foreign_function(name: str, result: Any) -> Callable[..., Any]:
    """Return the kernel `jaxinfl_<name>` as a function of JAX arrays; `result` is the shape or the shapes that it returns.

    Raises:
      NativeUnavailable: see `load`.
    """
    load()
    return jax.ffi.ffi_call(f"jaxinfl_{name}", result, vmap_method="sequential")


@functools.cache
def why_unavailable() -> str | None:
    """The reason why the kernels cannot be loaded, in a few words; None if they are loaded."""
    try:
        load()
    except NativeUnavailable as error:
        return str(error)
    return None


def _find_or_compile() -> Path:
    """Find the library for this very compiler, processor and release of JAX, or compile it."""
    compiler = _compiler()
    folder = resources.files(__package__)
    sources = {name: folder.joinpath(name).read_text() for name in (*SOURCES, *HEADERS)}
    # The predefined macros name the compiler's version and every instruction set that it assumes. They are part of the
    # library's name, because a home directory may be shared by machines that do not run each other's code.
    macros = _run([*compiler, *_target(), "-dM", "-E", "-x", "c++", os.devnull])
    identity = repr((sources, compiler, _target(), FLAGS, macros, jax.__version__))
    name = f"kernels-{hashlib.sha256(identity.encode()).hexdigest()[:16]}.so"
    for cache in _folders():
        try:
            cache.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not _is_mine(cache):
                continue
            if (cache / name).is_file():
                return cache / name
            return _compile(compiler, sources, cache / name)
        except OSError:  # not writable: the next folder
            continue
    raise NativeUnavailable("no folder to keep the compiled kernels in; set XDG_CACHE_HOME to one that is writable")


def _folders() -> tuple[Path, Path]:
    return cache_folder("native"), Path(tempfile.gettempdir()) / f"jaxinfl-native-{os.getuid()}"


def _is_mine(folder: Path) -> bool:
    """Whether nobody else can put a library into the folder, as anybody could into the system's temporary folder."""
    about = folder.lstat()
    return stat.S_ISDIR(about.st_mode) and about.st_uid == os.getuid() and not about.st_mode & 0o022


def _compile(compiler: list[str], sources: dict[str, str], library: Path) -> Path:
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        for name, text in sources.items():
            Path(folder, name).write_text(text)
        compiling = []
        for name in SOURCES:
            options = [*FLAGS, *_target(), OPTIMIZATION[name], "-I", jax.ffi.include_dir()]
            command = [*compiler, *options, "-c", name, "-o", f"{name}.o"]
            compiling.append(subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True))
        errors = [process.communicate()[1] for process in compiling]
        for process, output in zip(compiling, errors, strict=True):
            if process.returncode:
                raise NativeUnavailable(f"{compiler[0]} failed: {_first_error(output)}")
        # The library appears in one step: another process may be compiling the same.
        with replace_atomically(library) as draft:
            _run([*compiler, "-shared", *(f"{name}.o" for name in SOURCES), "-o", str(draft)], cwd=folder)
    return library


def _compiler() -> list[str]:
    if os.name != "posix":
        raise NativeUnavailable(f"they are not made for {platform.system()}")
    if os.environ.get("CXX"):
        return shlex.split(os.environ["CXX"])
    for name in ("c++", "g++", "clang++"):
        if found := shutil.which(name):
            return [found]
    raise NativeUnavailable("no C++ compiler (c++, g++ or clang++) is installed")


def _target() -> tuple[str, ...]:
    # On ARM, -march=native says less to some compilers than -mcpu=native.
    return ("-mcpu=native",) if platform.machine() in ("aarch64", "arm64") else ("-march=native",)


def _run(command: list[str], cwd: str | None = None) -> str:
    try:
        return subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True).stdout
    except FileNotFoundError:
        raise NativeUnavailable(f"the C++ compiler {command[0]} is not there") from None
    except subprocess.CalledProcessError as error:
        raise NativeUnavailable(f"{command[0]} failed: {_first_error(error.stderr)}") from None


def _first_error(output: str) -> str:
    """The first line of a compiler's output that says what is wrong."""
    lines = output.strip().splitlines() or ["no output"]
    return next((line for line in lines if "error" in line), lines[-1])


__all__ = ["NativeUnavailable", "foreign_function", "load", "prepare", "why_unavailable"]
