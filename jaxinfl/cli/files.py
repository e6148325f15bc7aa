"""Files that the sub-commands write, each all at once."""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxinfl.arguments import expand_home
from jaxinfl.files import replace_atomically, write_atomically


def check_out(out: Path | None, suffix: str) -> Path | None:
    """The file that `--out` names, checked before anything is computed; None where there is none.

    Raises:
      ValueError: it has another suffix, is a folder, or lies in no folder.
    """
    if out is None:
        return None
    path = expand_home(out, "--out")
    if path.suffix != suffix:
        raise ValueError(f"--out is {str(path)!r}; it takes the name of a file that ends in {suffix}.")
    if path.is_dir():
        raise ValueError(f"--out is {str(path)!r}, which is a folder; it takes the name of a file.")
    if not path.parent.is_dir():
        raise ValueError(f"--out is {str(path)!r}, and there is no folder {str(path.parent)!r}. Make it first.")
    return path


def save_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays as an .npz file, in place of an older one."""
    with replace_atomically(path) as draft, draft.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def save_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table as a CSV file, in place of an older one; NaN is written as an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(["" if isinstance(value, float) and math.isnan(value) else value for value in row] for row in rows)
    write_atomically(path, text.getvalue().encode())


__all__ = ["check_out", "save_arrays", "save_csv"]
