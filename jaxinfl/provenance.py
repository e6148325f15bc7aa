"""The origin of a result: versions of the packages, the command line and the git commit."""

import platform
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

_PACKAGES = ("jaxinfl", "jax", "jaxlib", "flax", "optax", "numpy", "zarr")


def describe() -> dict[str, Any]:
    """What computed a result, as JSON values: versions, command line and commit."""
    return {"versions": versions(), "command": command(), "git_commit": git_commit()}


def versions() -> dict[str, str]:
    """Versions of Python and of the packages on which results depend."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


_WORKS_FOR: list[str] = []


def work_for(command: str) -> None:
    """Say that this process works for a command that the user started, which is then the one to type again."""
    _WORKS_FOR[:] = [command]


def command() -> str:
    """The command line of this process, or of the one that it works for, as it can be typed again in the same folder.

    In a notebook there is none, and the kernel's own would only tell where Jupyter keeps its files.
    """
    if _WORKS_FOR:
        return _WORKS_FOR[0]
    if any(Path(word).stem.endswith("kernel_launcher") for word in sys.orig_argv):
        return "a cell of a notebook"
    if [Path(word).stem for word in sys.orig_argv[1:2]] == ["jaxinfl"]:  # the script that pip made for the command
        return shlex.join(["jaxinfl", *sys.orig_argv[2:]])
    executable = Path(sys.executable)
    below = executable.is_relative_to(Path.cwd())
    name = str(executable.relative_to(Path.cwd())) if below else executable.name
    return shlex.join([name, *sys.orig_argv[1:]])


def git_commit() -> str | None:
    """Commit of the jaxinfl that runs, with a + where files were changed; None outside a checkout."""
    here = Path(__file__).resolve()
    # An installed jaxinfl may lie inside another project's checkout, whose commit says nothing about it.
    if _git(here.parent, "ls-files", "--error-unmatch", here.name) is None:
        return None
    return _git(here.parent, "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+")


def _git(folder: Path, *arguments: str) -> str | None:
    """Run git and return what it prints; None where it fails or is not installed."""
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
