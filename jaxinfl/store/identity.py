"""Comparison of two runs: going on with the models of another run would mix two experiments."""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxinfl.store.errors import RunDirectoryError

_HASH_LENGTH = 64
_NAMES = {("model", "name")}
"""Fields that may differ between equal runs: a spawned process calls the main module __mp_main__, so names may change."""
_REMEDY = "Use another run_dir, or delete this one to start anew."


def check_same_run(recorded: Mapping[str, Any], given: Mapping[str, Any], path: Path | None) -> None:
    """Raise `RunDirectoryError` where two identities differ; the message names the first field that does.

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
    return None if _as_lists(old) == _as_lists(new) else (field, old, new)


def _as_lists(value: Any) -> Any:
    """Turn tuples into lists, as which they come back from JSON."""
    return [_as_lists(part) for part in value] if isinstance(value, (list, tuple)) else value


__all__ = ["check_same_run"]
