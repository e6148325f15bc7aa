"""What an ensemble says of itself, in words."""

from collections.abc import Iterable

from jaxinfl.store.elsewhere import is_trained_elsewhere
from jaxinfl.store.parts import Parts, Rows


def describe_ensemble(store: Rows, finished: int, about_rows: Iterable[str], overrides: Iterable[str]) -> str:
    """Some lines about a run: its models, data, recipe and origin.

    Args:
      store: the run.
      finished: number of its finished models.
      about_rows: what is to be said of the ensemble's rows.
      overrides: names of what has a value a model.
    """
    about = store.attributes
    identity = about["identity"]
    data, elsewhere = identity["data"], is_trained_elsewhere(about)
    model = "models trained elsewhere" if elsewhere else f"models of {identity['model']['name']}"
    lines = [f"Ensemble of {finished} of {store.num_models} {model}", *about_rows]
    if isinstance(store, Parts) and store.missing:
        missing = ", ".join(map(str, store.missing))
        lines.append(f"  missing  part {missing} of {store.num_parts}")
    sizes = f"{data['num_train']} train, {data['num_test']} test"
    if "fingerprint" in data:
        sizes = f"{about['data_name']}: {sizes}, fingerprint {data['fingerprint'][:12]}"
    lines += [f"  data     {sizes}", f"  in       {store.path or 'memory'}"]
    if elsewhere:
        lines.append(f"  scores   {', '.join(f'{name} ({kind})' for name, kind in about['scores'])}")
    else:
        lines.append(f"  recipe   {', '.join(f'{name}={value}' for name, value in identity['recipe'].items())}")
        if names := ", ".join(overrides):
            lines.append(f"  a value for each model: {names}")
        lines.append(f"  device   {about['execution']['device']}")
    return "\n".join(
        [
            *lines,
            f"  versions {', '.join(f'{name} {version}' for name, version in about['versions'].items())}",
            f"  commit   {about['git_commit'] or 'none: jaxinfl did not run from a git checkout'}",
            f"  command  {about['command']}",
        ]
    )


__all__ = ["describe_ensemble"]
