"""What an ensemble says of itself, in words."""

from collections.abc import Iterable

import numpy as np

from jaxinfl.store.elsewhere import is_trained_elsewhere
from jaxinfl.store.parts import Parts, Rows


def describe_ensemble(
    store: Rows,
    finished: int,
    diverged: tuple[int, bool],
    rows: int | None,
    device_kinds: np.ndarray,
    overrides: Iterable[str],
) -> tuple[str, list[tuple[str, str]]]:
    """A title, and facts about a run: its models, data, recipe and origin, each with a name, which may be empty.

    Args:
      store: the run.
      finished: number of its finished models.
      diverged: number of models that diverged, and whether the ensemble has rows for them.
      rows: number of rows that were chosen; None where all were.
      device_kinds: the kind of device that trained each row, text [models].
      overrides: names of what has a value a model.
    """
    about = store.attributes
    identity = about["identity"]
    data, elsewhere = identity["data"], is_trained_elsewhere(about)
    model = "models trained elsewhere" if elsewhere else f"models of {identity['model']['name']}"
    facts = []
    if diverged[0]:
        facts.append(("", f"{diverged[0]} models diverged, {'marked in .diverged' if diverged[1] else 'left out'}"))
    if rows is not None:
        facts.append(("", f"{rows} of them are rows here"))
    kinds, numbers = np.unique(device_kinds, return_counts=True)
    if len(kinds) > 1:
        each = ", ".join(f"{number} models on {kind}" for kind, number in zip(kinds, numbers, strict=True))
        facts.append(("", f"mixed devices, so that the same job may not give the same bits again: {each}"))
    if isinstance(store, Parts) and store.missing:
        missing = ", ".join(map(str, store.missing))
        facts.append(("missing", f"part {missing} of {store.num_parts}"))
    sizes = f"{data['num_train']} train, {data['num_test']} test"
    if "fingerprint" in data:
        sizes = f"{about['data_name']}: {sizes}, fingerprint {data['fingerprint'][:12]}"
    facts += [("data", sizes), ("in", str(store.path or "memory"))]
    if elsewhere:
        facts.append(("scores", ", ".join(f"{name} ({kind})" for name, kind in about["scores"])))
    else:
        facts.append(("recipe", ", ".join(f"{name}={value}" for name, value in identity["recipe"].items())))
        if names := ", ".join(overrides):
            facts.append(("", f"a value for each model: {names}"))
        facts.append(("device", about["execution"]["device"]))
    facts += [
        ("versions", ", ".join(f"{name} {version}" for name, version in about["versions"].items())),
        ("commit", about["git_commit"] or "none: jaxinfl did not run from a git checkout"),
        ("command", about["command"]),
    ]
    return f"Ensemble of {finished} of {store.num_models} {model}", facts


def format_facts(title: str, facts: Iterable[tuple[str, str]]) -> str:
    """A title and facts as lines for a terminal."""
    return "\n".join([title, *(f"  {name:<8} {text}" if name else f"  {text}" for name, text in facts)])


__all__ = ["describe_ensemble", "format_facts"]
