"""Errors of clusters, and of the packages that reach them."""

import importlib
from typing import Any


class ClusterError(RuntimeError):
    """A cluster cannot be reached, does not take the jobs, or its jobs fail again and again."""


def cannot_be_sent(error: Exception) -> str:
    """Say that a job cannot be sent to other processes."""
    return (
        f"the job cannot be sent to other processes: {error}. A model, task or data set that is sent must not hold open files, locks or "
        "compiled functions. Define the model as a class or function of a module."
    )


def need_extra(package: str, extra: str, kind: str) -> Any:
    """Import a package that only clusters of one kind need.

    Raises:
      ClusterError: it is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ClusterError(
            f"cluster is {kind!r}, which needs {package}, and it is not installed here ({error}). Install it by "
            f"pip install 'jaxinfl[{extra}]'."
        ) from error


__all__ = ["ClusterError", "cannot_be_sent", "need_extra"]
