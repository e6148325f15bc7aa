"""Checks that the files that TensorFlow Datasets prepared are all there, whole, and hold what their description says."""

import bisect
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

INFO = "dataset_info.json"

# Readers of damaged records raise these: for the record file, the protocol buffer in it, and the features made of that.
READ_ERRORS = (RuntimeError, ValueError, TypeError, LookupError, OSError, EOFError)


@runtime_checkable  # so that the tests can check annotations
class FileInstruction(Protocol):
    """A part of one shard, as TFDS describes it."""

    filename: Any
    skip: int
    take: int
    examples_in_shard: int


class DamagedCopy(ValueError):
    """A prepared copy of a data set must be made or fetched again."""


def damaged_copy(name: str, folder: Path, fault: str) -> DamagedCopy:
    """Make the error that says what is wrong with the copy of the data set `name`, and what to do."""
    return DamagedCopy(
        f"The copy of {name} in {folder} is damaged: {fault}. Remove this folder, so that the data set is prepared again, "
        "or copy its files again from where they are whole."
    )


def format_reason(error: Exception) -> str:
    """Format the message of an error in brackets; empty where it has none."""
    return f" ({error})" if str(error) else ""


def check_shards(name: str, folder: Path, instructions: Sequence[FileInstruction]) -> None:
    """Raise `DamagedCopy` unless every shard is there and holds as many examples as `dataset_info.json` says.

    This takes about a tenth of a millisecond for each shard, because the number of records stands at its end. Damage within
    a record is found when the record is read.
    """
    for shard, number in {(Path(part.filename), part.examples_in_shard): None for part in instructions}:
        if not shard.is_file():
            raise damaged_copy(name, folder, f"the file {shard.name} is missing")
        if not shard.stat().st_size:
            raise damaged_copy(name, folder, f"the file {shard.name} is empty")
        if ".array_record" not in shard.name:  # other formats have readers that count by themselves
            continue
        # This import is here because `load_tfds` says how to install the package where it is missing.
        from array_record.python import array_record_module

        try:
            reader = array_record_module.ArrayRecordReader(str(shard))
            found = reader.num_records()
            reader.close()
        except READ_ERRORS as error:
            raise damaged_copy(
                name, folder, f"the file {shard.name} is truncated or damaged{format_reason(error)}"
            ) from error
        if found is None:  # the reader returns None for a file without its end
            raise damaged_copy(name, folder, f"the file {shard.name} is truncated")
        if found != number:
            fault = f"the file {shard.name} holds {found} examples, but {INFO} says {number}"
            raise damaged_copy(name, folder, fault)


def shard_of(index: int, instructions: Sequence[FileInstruction]) -> str:
    """Name of the file that holds the example `index` of a split."""
    ends = list(itertools.accumulate(part.take for part in instructions))
    return Path(instructions[bisect.bisect_right(ends, index)].filename).name
