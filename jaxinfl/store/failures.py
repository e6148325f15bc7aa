"""Errors for full disks, read-only folders and drives that are gone, each in one line."""

import contextlib
import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

from jaxinfl.store.errors import RunDirectoryError

_REMEDIES = {
    errno.ENOSPC: "Free some space",
    errno.EDQUOT: "Free some space within your quota",
    errno.EFBIG: "Raise the limit on the size of files",
    errno.EROFS: "Make it writable",
    errno.EACCES: "Make it writable",
    errno.EPERM: "Make it writable",
}


class WriteFailed(RunDirectoryError):
    """The file system does not take what a run has to write; earlier results are intact."""


@contextlib.contextmanager
def write_failures(path: Path) -> Iterator[None]:
    """Turn errors of the operating system inside this block into a `WriteFailed` that says what to do."""
    try:
        yield
    except OSError as error:
        raise _failure(path, error) from error
    except WriteFailed:
        raise  # which says it already
    except Exception as error:
        # Libraries wrap what the system says in errors of their own.
        if "No space left" in str(error) or "Disk quota" in str(error):
            raise _failure(path, OSError(errno.ENOSPC, "No space left on device")) from error
        if "File too large" in str(error):
            raise _failure(path, OSError(errno.EFBIG, "File too large")) from error
        raise


def check_still_there(path: Path) -> None:
    """Raise unless the run directory is still where it was: Zarr would make another one in its place."""
    if not (path / "zarr.json").is_file():
        raise WriteFailed(
            f"{path} has vanished while it was being written: its drive is not mounted, or the folder was moved. "
            "Bring it back, and the same call goes on from there."
        )


def free_bytes(path: Path) -> int:
    """Bytes that this user may still write where a run directory is or will be."""
    there = path.absolute()
    while not there.exists():
        there = there.parent
    return shutil.disk_usage(there).free


def retell(error: WriteFailed, path: Path, outcome: str) -> WriteFailed:
    """The same failure of what becomes `path` at its end; `outcome` says what to do then, and what is left."""
    cause = error.__cause__
    return _failure(path, cause, outcome) if isinstance(cause, OSError) else error


def _failure(
    path: Path, error: OSError, outcome: str = "and the same call goes on: finished models stay"
) -> WriteFailed:
    remedy = _REMEDIES.get(error.errno or 0, "Mend that")
    about = error.strerror or str(error)
    return WriteFailed(f"{path} cannot be written: {about}. {remedy}, {outcome}.")


__all__ = ["WriteFailed", "check_still_there", "free_bytes", "retell", "write_failures"]
