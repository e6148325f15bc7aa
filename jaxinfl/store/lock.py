"""One process at a time writes a run, by a lock of the operating system that is released when its process dies."""

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import filelock

from jaxinfl.store.errors import RunDirectoryError
from jaxinfl.store.failures import write_failures

LOCK, HOLDER = "writer.lock", "writer.json"
"""Names of the lock file and of the file that says who holds the lock.

The lock file stays: if it were removed, two processes could hold two locks of one name.
"""


class BeingWritten(RunDirectoryError):
    """Another process is writing the run directory."""


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Be the only process that writes into the run directory, which is made if it is not there.

    Raises:
      BeingWritten: another process is writing; the message says its host and process id.
      WriteFailed: nothing can be written there.
    """
    with write_failures(path):
        path.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(path / LOCK, timeout=0)
        try:
            lock.acquire()
        except filelock.Timeout:
            raise BeingWritten(
                f"{path} is being written by {holder_of(path)}. Wait until it is done, or use another run_dir. To share the "
                "work of a new run, give each process its part: part=(1, 2) and part=(2, 2)."
            ) from None
    try:
        with write_failures(path):
            (path / HOLDER).write_text(json.dumps({"host": socket.gethostname(), "pid": os.getpid()}))
        yield
    finally:
        with contextlib.suppress(OSError):  # a drive that is gone
            (path / HOLDER).unlink(missing_ok=True)
            if [each.name for each in path.iterdir()] == [LOCK]:  # no run came of it
                (path / LOCK).unlink()
                path.rmdir()
        lock.release()


def holder_of(path: Path) -> str:
    """The process that writes into a run directory, in words."""
    try:
        about = json.loads((path / HOLDER).read_text())
        return f"process {about['pid']} on {about['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"  # which is just beginning or leaving


__all__ = ["BeingWritten", "HOLDER", "LOCK", "holder_of", "writing"]
