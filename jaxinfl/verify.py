"""This command checks that a run directory holds what was written, and recomputes just what is damaged.

    python -m jaxinfl.verify RUN_DIR             read everything, name every file that is damaged, missing or foreign
    python -m jaxinfl.verify RUN_DIR --repair    restore damaged files from their copies, train damaged models again

The exit status is 0 where every file is what was written or was repaired. It is 1 where some file is not what was written, and
2 where the run cannot be read or repaired.
"""

import dataclasses
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from jaxinfl.arguments import as_path
from jaxinfl.datasets import Dataset, DatasetUnavailable
from jaxinfl.datasets.options import ReloadOptions
from jaxinfl.store import RunDirectoryError, writing
from jaxinfl.store.damage import Damage, find_damage, mend
from jaxinfl.store.elsewhere import is_trained_elsewhere
from jaxinfl.store.parts import extension_path, extensions_in, open_rows, part_path, parts_in
from jaxinfl.store.run import ABSENT, RunStore, is_run
from jaxinfl.training import ModelKeys, recall_data, recall_model, recall_recipe, train_ensemble
from jaxinfl.training.agreement import Agreement, Devices, Disagreement


@dataclass(frozen=True)
class Options(ReloadOptions):
    """Options of `python -m jaxinfl.verify`."""

    run_dir: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run directory, which train_ensemble(..., run_dir=...) made, whole or in parts."""
    repair: bool = False
    """Restore damaged files from their copies, train damaged models again, and move foreign files out of the run."""
    mixed_devices: bool = False
    """Train damaged models again on devices of another kind than those of the run, which may give them other last bits."""


_NAME_IT = "Name the data set by --data, with --image-size, --splits and --background, or do without this command."


def verify(run_dir: Path) -> list[tuple[Path, Damage]]:
    """Find everything that is wrong in a run directory or its parts, each with the directory in which it is.

    Raises:
      RunDirectoryError: there is no run, or another jaxinfl made it.
    """
    where = as_path(run_dir, "run_dir", "the directory of a run")
    return [(path, damage) for path in _runs(where) for damage in find_damage(path)]


def repair(options: Options) -> list[tuple[Path, Damage]]:
    """Mend what is damaged, train just the damaged models again, and return what was wrong.

    Raises:
      RunDirectoryError: what is damaged cannot be replaced, or the data set or the model is not known here.
    """
    found, again = [], []
    for path in _runs(options.run_dir):
        with writing(path):
            unfinished = _count_absent(path)
            if not options.mixed_devices:
                _check_devices(path)
            mended = mend(path)
            found += [(path, damage) for damage in mended]
        if unfinished and any(damage.models for damage in mended):
            raise RunDirectoryError(
                f"{path} is mended, but some of its models were never trained; its damaged models are trained together with "
                f"those. Run the command that made it once more: {RunStore.open(path, writable=False).attributes['command']}"
            )
        if _count_absent(path) and not unfinished:
            again.append(path)
    # Only when all is mended: extensions are trained together with what they extend.
    for path in again:
        if _count_absent(path):
            _train_again(path, options)
    return found


def _check_devices(path: Path) -> None:
    """Raise, before anything is changed, where damaged models cannot be given their bits again by the devices of this process.

    Raises:
      RunDirectoryError: the run was made on other devices; the message says what to do.
    """
    try:
        attributes = RunStore.open(path, writable=False).attributes
    except RunDirectoryError:
        return  # its description is mended first
    if is_trained_elsewhere(attributes):
        return
    devices, here = Agreement.of_run(attributes).devices, Devices.here()
    try:
        devices.check_kind(here, path)
        difference = devices.other_threads(here, path)
    except Disagreement as error:
        difference = error
    if difference is not None and any(damage.models for damage in find_damage(path)):
        raise RunDirectoryError(
            f"damaged models cannot be trained again here: {difference} For this command that is --mixed-devices."
        )


def _runs(run_dir: Path) -> list[Path]:
    """List the directory itself, or the directories of its parts, and those of its extensions."""
    parts = [] if is_run(run_dir) else parts_in(run_dir)
    whole = [part_path(run_dir, part) for part in parts] or [run_dir]
    return whole + [extension_path(run_dir, rows) for rows in extensions_in(run_dir)]


def _count_absent(path: Path) -> int:
    """Count the models that are still to be trained; 0 where the run must be mended before it can be read."""
    try:
        return int((RunStore.open(path, writable=False).own_status() == ABSENT).sum())
    except RunDirectoryError:
        return 0


def _is_trained_elsewhere(run_dir: Path) -> bool:
    """Whether a run's models were given by their scores; False where its description is damaged."""
    try:
        return is_run(run_dir) and is_trained_elsewhere(RunStore.open(run_dir, writable=False).attributes)
    except RunDirectoryError:
        return False


def _train_again(path: Path, options: Options) -> None:
    """Train the absent models with the masks, keys, data, model and recipe that the run records."""
    store = RunStore.open(path, writable=False)
    identity = store.attributes["identity"]
    command = f"Run the command that made it once more, which trains just those models: {store.attributes['command']}"
    if "initial" in identity:
        raise RunDirectoryError(f"damaged models of {path} start from weights that the run does not keep. {command}")
    part = store.attributes.get("part")
    # A run with extensions is asked for as a whole, and only its absent models are trained.
    rows = store if part is not None else open_rows(options.run_dir)
    overrides = {name: rows.read_input(f"override_{name}") for name in identity.get("overrides", {})}
    try:
        data = recall_data(store.attributes, _data(options, store.attributes["data_source"] or {}))
        train_ensemble(
            rows.read_input("masks"),
            ModelKeys.of_data(rows.read_input("key_data")),
            data=data,
            model=recall_model(store.attributes, data),
            recipe=recall_recipe(store.attributes),
            run_dir=options.run_dir,
            overrides=overrides or None,
            part=None if part is None else (part[0], part[1]),
            max_diverged=1.0,
            mixed_devices=options.mixed_devices,
        )
    except (RunDirectoryError, ValueError) as error:
        raise RunDirectoryError(
            f"damaged models of {path} are absent now, but could not be trained: {error} {_NAME_IT} {command}"
        ) from error


def _data(options: Options, recorded: Mapping[str, Any]) -> Dataset | None:
    """Load the data set that the user names; None where the run's own record is to be used."""
    try:
        return options.load(recorded)
    except (DatasetUnavailable, ValueError, OSError) as error:
        raise RunDirectoryError(f"{options.data} cannot be loaded ({error}).") from error


def find_or_repair(options: Options) -> list[tuple[Path, Damage]]:
    """Find everything that is wrong in the run that the options name, and mend it where they say so.

    Raises:
      ValueError: the run directory is a URL or cannot be a folder.
      RunDirectoryError: there is no run; what is damaged cannot be replaced.
    """
    options = dataclasses.replace(options, run_dir=as_path(options.run_dir, "run_dir", "the directory of a run"))
    return repair(options) if options.repair else verify(options.run_dir)


def describe(options: Options, found: Sequence[tuple[Path, Damage]]) -> list[str]:
    """What `find_or_repair` found or mended, a line for each file, and what to do."""
    lines = [f"{path / damage.file}: {damage.what}" + _format_range(damage) for path, damage in found]
    again = count_damaged_models(found)
    if not found:
        lines.append(f"{options.run_dir}: every file is what was written.")
    elif options.repair:
        lines.append(f"Files repaired: {len(found)}. Models trained again: {again}.")
    elif again and _is_trained_elsewhere(options.run_dir):
        lines.append(
            f"{len(found)} files are not what was written; {again} models are damaged. They were trained elsewhere, and cannot be "
            "trained again here."
        )
    else:
        lines.append(
            f"{len(found)} files are not what was written; {again} models must be trained again. To repair them, run\n"
            f"    python -m jaxinfl.verify {shlex.quote(str(options.run_dir))} --repair"
        )
    if absent := count_absent_models(options.run_dir):
        lines.append(f"{absent} models are not trained yet; the command that made the run trains them.")
    return lines


def count_damaged_models(found: Sequence[tuple[Path, Damage]]) -> int:
    """Count the models of which some file is not what was written."""
    return int(np.unique([model for _, damage in found for model in damage.models]).size)


def count_absent_models(run_dir: Path) -> int:
    """Count the models of a run, its parts and its extensions that are still to be trained."""
    return sum(map(_count_absent, _runs(run_dir)))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    options = tyro.cli(
        Options, args=argv, prog="python -m jaxinfl.verify", description=(__doc__ or "").split("\n\n")[0]
    )
    try:
        found = find_or_repair(options)
        lines = describe(options, found)
    except (RunDirectoryError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(*lines, sep="\n")
    return 1 if found and not options.repair else 0


def _format_range(damage: Damage) -> str:
    return f", models {damage.models.start} to {damage.models.stop - 1}" if damage.models else ""


if __name__ == "__main__":
    sys.exit(main())
