"""What makes two runs the same run: going on with another one's models would mix two experiments."""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxinfl.store.errors import RunDirectoryError

_HASH_LENGTH = 64
_NAMES = {("model", "name")}
"""What something is called is no part of what it is: a spawned process calls the main module __mp_main__."""
_REMEDY = "Use another run_dir, or delete this one to start anew."


def check_same_run(recorded: Mapping[str, Any], given: Mapping[str, Any], path: Path | None) -> None:
    """Raise `RunDirectoryError` naming the field in which two identities differ.

    Args:
      recorded: identity of the run in the directory: nested JSON values.
      given: identity of the run that was asked for; fields that only one side has count as different.
      path: the run directory, for the message.
    """
    difference = _first_difference(recorded, given, ())
    if difference is None:
        return
    field, old, new = difference
    names = [(each.get("model") or {}).get("name") for each in (recorded, given)]
    if field[0] == "model" and names[0] != names[1]:
        field, old, new = ("model", "name"), *names  # which say more than a number of parameters
    what = field[0] if len(field) == 1 else f"{field[0]} ({'.'.join(field[1:])})"
    # A hash tells a reader nothing.
    hashed = any(isinstance(value, str) and len(value) == _HASH_LENGTH for value in (old, new))
    values = "" if hashed else f": {old!r} there, {new!r} now"
    raise RunDirectoryError(f"{path} belongs to another run: it differs in {what}{values}. {_REMEDY}")


def _first_difference(old: Any, new: Any, field: tuple[str, ...]) -> tuple[tuple[str, ...], Any, Any] | None:
    if field in _NAMES:
        return None
    # A part that only one side has differs in each of its fields.
    parts = [{} if value is None else value for value in (old, new)]
    if all(isinstance(part, Mapping) for part in parts):
        for name in dict.fromkeys(itertools.chain(*parts)):
            difference = _first_difference(parts[0].get(name), parts[1].get(name), (*field, name))
            if difference is not None:
                return difference
        return None
    return None if _plain(old) == _plain(new) else (field, old, new)


def _plain(value: Any) -> Any:
    """Tuples come back from JSON as lists."""
    return [_plain(part) for part in value] if isinstance(value, (list, tuple)) else value


__all__ = ["check_same_run"]
