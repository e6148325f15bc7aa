"""Every sub-command runs here: its answer is printed, and what goes wrong becomes one line and an exit status."""

import contextlib
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from jaxinfl.cli.answer import Answer, print_answer
from jaxinfl.cluster.errors import ClusterError
from jaxinfl.compilation_cache import use_compilation_cache
from jaxinfl.datasets import DatasetUnavailable
from jaxinfl.provenance import command
from jaxinfl.store import RunDirectoryError
from jaxinfl.training import OutOfMemory, TooManyDiverged
from jaxinfl.training.interrupts import Interrupted

MENDABLE = 2
"""Exit status after a mistake that the user can mend."""
MENDABLE_ERRORS = (ClusterError, DatasetUnavailable, RunDirectoryError, OutOfMemory, TooManyDiverged, OSError)
"""Errors of data, run directories and machines that the user can mend, which are told without a traceback."""
INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it."""


def execute(run: Callable[[Any], Answer], options: Any) -> int:
    """Run a sub-command with its options, print what it answers, and return the exit status.

    The status is that of the answer, 2 for what the user can mend, and 130 after an interrupt. Errors and warnings take one line on
    standard error each.
    """
    use_compilation_cache()
    try:
        with _one_line_warnings():
            answer = run(options)
        print_answer(answer, as_json=options.json)
    except BrokenPipeError:
        raise  # which is no mistake
    except (*MENDABLE_ERRORS, ValueError, TypeError, MemoryError) as error:
        print(f"error: {_one_line(error)}", file=sys.stderr)
        return MENDABLE
    except Interrupted:  # which has said how to go on
        return INTERRUPTED
    except KeyboardInterrupt:
        print(f"\nTo go on: {command()}", file=sys.stderr)
        return INTERRUPTED
    return answer.status


def _one_line(error: BaseException) -> str:
    """What an error says, or its name where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


@contextlib.contextmanager
def _one_line_warnings() -> Iterator[None]:
    """Show each warning inside the block as one line on standard error, without the place in the code."""

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        print(f"warning: {' '.join(str(message).split())}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


__all__ = ["INTERRUPTED", "MENDABLE", "MENDABLE_ERRORS", "execute"]
