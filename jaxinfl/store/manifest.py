"""Manifests: files that record what other files hold, so that damage is found which no file format notices.

A manifest is JSON in one spelling only, with a hash of itself, so that any change to it is found too.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from jaxinfl.files import write_atomically
from jaxinfl.store.errors import RunDirectoryError


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_manifest(path: Path, content: Mapping[str, Any]) -> None:
    """Write a manifest, all at once."""
    write_atomically(path, _encode(content).encode())


def read_manifest(path: Path) -> dict[str, Any]:
    """Read the content of a manifest.

    Raises:
      RunDirectoryError: the manifest is missing or is not what was written.
    """
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        raise RunDirectoryError(f"{path} is missing.") from None
    try:
        content: dict[str, Any] = json.loads(text)["content"]
    except (ValueError, KeyError, TypeError):
        raise RunDirectoryError(f"{path} is damaged.") from None
    if _encode(content).encode() != text:
        raise RunDirectoryError(f"{path} is damaged.")
    return content


def _encode(content: Mapping[str, Any]) -> str:
    """Write the content as JSON, with its hash."""
    inner = json.dumps(content, sort_keys=True)
    return json.dumps({"content": content, "sha256": hashlib.sha256(inner.encode()).hexdigest()}, sort_keys=True)


def digests(folder: Path, files: Iterable[Path]) -> dict[str, str]:
    """SHA-256 of files, by their path below the folder."""
    return {path.relative_to(folder).as_posix(): file_digest(path) for path in sorted(files)}


def files_below(folder: Path) -> list[Path]:
    """List all files below a folder, at any depth; links are not followed and count as files."""
    return sorted(path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())


__all__ = ["digests", "file_digest", "files_below", "read_manifest", "write_manifest"]
