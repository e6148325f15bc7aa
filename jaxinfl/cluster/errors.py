"""Errors of clusters, and of the packages that reach them."""

import importlib
from typing import Any


class ClusterError(RuntimeError):
    """A cluster cannot be reached, does not take the jobs, or its jobs fail again and again."""


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


__all__ = ["ClusterError", "need_extra"]
