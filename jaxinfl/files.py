"""Files that jaxinfl keeps for itself: where its caches lie, and how a file takes the place of an older one all at once."""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from platformdirs import user_cache_path

from jaxinfl.arguments import as_path


def cache_folder(name: str, variable: str | None = None) -> Path:
    """The folder for one kind of files that may be deleted at any time; it need not exist.

    Args:
      name: the folder's name in the user's cache of jaxinfl, which is `~/.cache/jaxinfl` on Linux. XDG_CACHE_HOME
        replaces `~/.cache` where it is set, on every system.
      variable: an environment variable that names another folder where it is set.

    Raises:
      ValueError: the environment variable holds a URL, or text that cannot be the name of a folder.
    """
    if variable is not None and (chosen := os.environ.get(variable)):
        return as_path(chosen, variable, "a folder")
    if root := os.environ.get("XDG_CACHE_HOME"):
        return as_path(root, "XDG_CACHE_HOME", "a folder") / "jaxinfl" / name
    return user_cache_path("jaxinfl", appauthor=False) / name


@contextmanager
def replace_atomically(path: Path) -> Iterator[Path]:
    """Give a name beside `path` to write a file or a folder to, which becomes `path` when the block ends without an error.

    Whoever reads `path` finds what was there before or everything that was written, also when the process is killed. For a
    file this also holds when the machine loses its power. After an error nothing is left of the draft; a killed process
    leaves it, under a name that ends in ".partial". A folder becomes `path` only where that is missing or an empty folder.

    Raises:
      OSError: the draft cannot be written to the disk, or cannot take its place.
    """
    draft = path.with_name(f"{path.name}.{secrets.token_hex(6)}.partial")
    try:
        yield draft
        if draft.is_file():
            _flush(draft)
        os.replace(draft, path)
    except BaseException:
        _remove(draft)
        raise


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file, in place of an older one all at once.

    Raises:
      OSError: it cannot be written; an older file stays as it was.
    """
    with replace_atomically(path) as draft:
        draft.write_bytes(content)


def _remove(draft: Path) -> None:
    """Remove as much as can be removed: the user is to see the error that stopped the writing, not another one."""
    if draft.is_dir():
        shutil.rmtree(draft, ignore_errors=True)
    else:
        with suppress(OSError):
            draft.unlink()


def _flush(file: Path) -> None:
    """Wait until a file is on the disk: under its new name it could otherwise be empty after a loss of power."""
    descriptor = os.open(file, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


__all__ = ["cache_folder", "replace_atomically", "write_atomically"]
