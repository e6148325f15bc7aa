"""Where a result comes from: versions, command, commit."""

import platform
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path

_PACKAGES = ("jaxinfl", "jax", "jaxlib", "flax", "optax", "numpy", "zarr")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide results."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def command() -> str:
    """The command line of this process, as it can be typed again."""
    return shlex.join([Path(sys.executable).name, *sys.orig_argv[1:]])


def git_commit() -> str | None:
    """Commit of the jaxinfl that runs, with a + where files were changed; None outside a checkout."""
    here = Path(__file__).resolve().parent
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+"],
            cwd=here,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip() or None
