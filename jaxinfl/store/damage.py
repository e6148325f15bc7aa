"""Damage in a run directory is found here, file by file, and mended where that needs no training."""

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import zarr

from jaxinfl.store import array_file
from jaxinfl.store.elsewhere import check_trained_here
from jaxinfl.store.errors import RunDirectoryError, format_models
from jaxinfl.store.layout import COPIES, digest, row_checksums
from jaxinfl.store.lock import HOLDER, LOCK
from jaxinfl.store.manifest import files_below
from jaxinfl.store.parts import is_extension
from jaxinfl.store.run import ABSENT, DIVERGED, MANIFEST, RunStore, descriptions, write_descriptions

_CHECKPOINT = re.compile(r"checkpoint/(shard-\d{6}/)?\d{6}\.(npz|json)")


@dataclass(frozen=True)
class Damage:
    """One file that is not what was written."""

    file: str
    """Path of the file, below the run directory."""
    what: str
    """Kind of damage: "damaged", "missing", "foreign" (not a file of a run) or "unfinished" (left by a killed process)."""
    models: range = range(0)
    """Models that must be trained again to replace the file."""


def find_damage(path: Path) -> list[Damage]:
    """Read a whole run directory and find every file that is not what was written; nothing is changed.

    Where the descriptions of the arrays are damaged, nothing else can be judged, and they alone are named.

    Raises:
      RunDirectoryError: there is no run, or another jaxinfl made it.
    """
    found = list(_descriptions(path))
    if found:
        return found
    store = RunStore.open(path, writable=False)
    found = [*_inputs(store), *_results(store), *_strangers(store, path)]
    if store.checkpoint:
        found += [Damage(_below(path, file), what) for file, what in store.checkpoint.damage().items()]
    return sorted(found, key=lambda damage: damage.file)


def mend(path: Path) -> list[Damage]:
    """Restore files that have a copy, make damaged models absent, move foreign files out, and return what was found.

    Models that were trained elsewhere are left as they are. Absent models are trained by the next call of `train_ensemble`. Foreign files go to a folder beside the run directory,
    `<name>.foreign`. Call it as the only writer.

    Raises:
      RunDirectoryError: an input and its copy are both damaged, or all descriptions, or models that were trained elsewhere; nothing
        can replace them.
    """
    found = list(_descriptions(path))
    _mend_descriptions(path, found)
    others = find_damage(path)
    store = RunStore.open(path)
    if lost := sorted({model for damage in others for model in damage.models}):
        check_trained_here(
            store.attributes,
            path,
            f"{len(lost)} of them are damaged ({format_models(np.array(lost))}) and cannot be trained again here. Nothing of them was "
            "changed. Bring back a copy of the files, or save the scores again in another directory.",
        )
    for damage in others:
        file = path / damage.file
        if damage.what == "foreign":
            target = path.with_name(f"{path.name}.foreign") / damage.file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(file, target)
        elif damage.what == "unfinished":
            file.unlink()
    _mend_inputs(store, {damage.file for damage in others})
    for first, stop in {(damage.models.start, damage.models.stop) for damage in others if damage.models}:
        _forget(store, path, slice(first, stop))
    if store.checkpoint and store.checkpoint.damage():
        store.checkpoint.remove()
    return [*found, *others]


def _descriptions(path: Path) -> Iterator[Damage]:
    """Compare the descriptions (zarr.json) of the group and its arrays with the manifest."""
    if not (path / "zarr.json").exists() and not (path / MANIFEST).exists():
        RunStore.open(path)  # which says that it is no run
    try:
        recorded = descriptions(path)
    except RunDirectoryError:
        yield Damage(MANIFEST, "damaged" if (path / MANIFEST).exists() else "missing")
        return
    for name, text in sorted(recorded.items()):
        if not (path / name).is_file():
            yield Damage(name, "missing")
        elif (path / name).read_bytes() != text.encode():
            yield Damage(name, "damaged")


def _mend_descriptions(path: Path, found: list[Damage]) -> None:
    if any(damage.file == MANIFEST for damage in found):
        _check_agreement(path)
        write_descriptions(path)
        return
    for damage in found:
        (path / damage.file).parent.mkdir(parents=True, exist_ok=True)
        (path / damage.file).write_text(descriptions(path)[damage.file])


def _check_agreement(path: Path) -> None:
    """Raise unless the group repeats the descriptions of its arrays, and its own description has the recorded hash."""
    RunStore.open(path, writable=False, checked=False)
    repeated = json.loads((path / "zarr.json").read_text())["consolidated_metadata"]["metadata"]
    for name, said in repeated.items():
        try:
            own = json.loads((path / name / "zarr.json").read_text())
        except (OSError, ValueError):
            own = None
        # A group repeats its own contents too.
        if own is None or any(said.get(key) != value for key, value in own.items() if key != "consolidated_metadata"):
            raise RunDirectoryError(
                f"{path / MANIFEST} and {path / name / 'zarr.json'} are both damaged, and there is no other copy of them. "
                "Train the run anew, in another run_dir."
            )


def _array(store: RunStore, name: str) -> zarr.Array:
    array = store.group[name]
    assert isinstance(array, zarr.Array)  # the descriptions are those of the manifest
    return array


def _chunks(store: RunStore, name: str) -> list[tuple[str, slice]]:
    """List the files of an array, each with its rows."""
    array = _array(store, name)
    rows, size = array.shape[0], array.chunks[0]
    inner = "/0" * (array.ndim - 1)
    return [(f"{name}/c/{i}{inner}", slice(i * size, min((i + 1) * size, rows))) for i in range(-(-rows // size))]


def _read(store: RunStore, name: str, file: str, rows: slice) -> np.ndarray | str:
    """Read the rows of one file; "missing" or "damaged" where they cannot be read."""
    if store.path is None or not (store.path / file).is_file():
        return "missing"
    try:
        return np.asarray(_array(store, name)[rows])
    except (ValueError, RuntimeError, OSError, TypeError):
        return "damaged"


def _inputs(store: RunStore) -> Iterator[Damage]:
    for name, recorded in store.attributes["inputs"].items():
        for place in (name, f"{COPIES}/{name}"):
            parts = [(file, _read(store, place, file, rows)) for file, rows in _chunks(store, place)]
            wrong = [Damage(file, part) for file, part in parts if isinstance(part, str)]
            yield from wrong
            if not wrong and digest(np.concatenate([part for _, part in parts])) != recorded:
                yield Damage(place, "damaged")


def _mend_inputs(store: RunStore, damaged: set[str]) -> None:
    broken = {file.partition("/c/")[0] for file in damaged}
    for name in store.attributes["inputs"]:
        copy = f"{COPIES}/{name}"
        if {name, copy} <= broken:
            raise RunDirectoryError(
                f"{name} in {store.path} and its copy are both damaged, and there is no third copy. Train the run anew, in "
                "another run_dir."
            )
        for target, source in ((name, copy), (copy, name)):
            if target in broken:
                _array(store, target)[...] = store.read_input(source)


def _results(store: RunStore) -> Iterator[Damage]:
    """Find the files of trained models that are not what was written."""
    own = {shard.start // store.shard_size: shard for shard in store.shards()}
    for chunk, shard in own.items():
        models = range(shard.start, shard.stop)
        within = slice(shard.start - chunk * store.shard_size, shard.stop - chunk * store.shard_size)
        file, rows = _chunks(store, "status")[chunk]
        status = _read(store, "status", file, rows)
        if isinstance(status, str):
            yield Damage(file, status, models)
            continue
        if (status[within] > DIVERGED).any():
            yield Damage(file, "damaged", models)
        elif (status[within] != ABSENT).any():
            yield from _results_of(store, chunk, within, models)


def _results_of(store: RunStore, chunk: int, within: slice, models: range) -> Iterator[Damage]:
    file, rows = _chunks(store, "row_checksum")[chunk]
    recorded = _read(store, "row_checksum", file, rows)
    if isinstance(recorded, str):
        yield Damage(file, recorded, models)
    for column, name in enumerate(store.row_arrays):
        file, rows = _chunks(store, name)[chunk]
        values = _read(store, name, file, rows)
        if isinstance(values, str):
            yield Damage(file, values, models)
        elif not isinstance(recorded, str):
            found = row_checksums(values[within], store.attributes["digest"], name, np.asarray(models))
            if (found != recorded[within, column]).any():
                yield Damage(file, "damaged", models)
    if "weights" in store.attributes and store.path is not None:
        for path, what in array_file.damage(store.weights.path(models.start)).items():
            yield Damage(_below(store.path, path), what, models)


def _forget(store: RunStore, path: Path, shard: slice) -> None:
    """Make the models of a shard absent, and remove what is left of them."""
    chunk = shard.start // store.shard_size
    # The whole chunk is reset: its rows that belong to other parts of the run are absent here anyway.
    rows = _chunks(store, "status")[chunk][1]
    _array(store, "status")[rows] = np.zeros(rows.stop - rows.start, np.uint8)
    for name in (*store.row_arrays, "row_checksum"):
        (path / _chunks(store, name)[chunk][0]).unlink(missing_ok=True)
    store.weights.remove(shard.start)


def _strangers(store: RunStore, path: Path) -> Iterator[Damage]:
    """Find the files that do not belong to a run, and those that a killed writer left unfinished."""
    arrays = [*store.row_arrays, "row_checksum", "status"]
    arrays += [place for name in store.attributes["inputs"] for place in (name, f"{COPIES}/{name}")]
    known = {file for name in arrays for file, _ in _chunks(store, name)}
    known |= {*descriptions(path), MANIFEST, LOCK, HOLDER}
    if "weights" in store.attributes:
        files = [store.weights.path(shard.start) for shard in store.shards()]
        known |= {_below(path, each) for file in files for each in (file, array_file.manifest_of(file))}
    for file in files_below(path):
        name = _below(path, file)
        # A checkpoint without a manifest was not finished, and one with a manifest is judged where it is read.
        extension, below, _ = name.partition("/")
        if below and is_extension(extension):
            continue  # a run directory of its own
        if name not in known and not _CHECKPOINT.fullmatch(name):
            yield Damage(name, "unfinished" if name.endswith(".partial") else "foreign")


def _below(path: Path, file: Path) -> str:
    return file.relative_to(path).as_posix()


__all__ = ["Damage", "find_damage", "mend"]
