"""The ensembles that an experiment needs, declared before any is trained, so that their cost is known without training."""

import contextlib
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool

import jaxinfl
from experiments.command_line import NothingMore, Options, console, mistakes
from jaxinfl import Cost, Dataset, Ensemble, ModelKeys, Recipe
from jaxinfl.arguments import check_whole
from jaxinfl.cli.train import parse_part
from jaxinfl.models import Variables
from jaxinfl.training import Job, cost_of_job
from jaxinfl.units import format_bytes, format_seconds


class Runs(dict[str, Ensemble]):
    """The finished ensembles of an experiment, by name."""

    def __init__(self, out: Path):
        super().__init__()
        self.out = out
        """Folder of the experiment's results."""
        self._computed: dict[str, Any] = {}
        self.seconds_per_model: dict[str, float] = {}
        """Seconds that one model took, compilation excluded, by ensemble; only of those that were trained just now."""

    def once(self, name: str, compute: Callable[[], Any]) -> Any:
        """What follows from finished ensembles, computed when it is first asked for: a request may need it before the analysis."""
        if name not in self._computed:
            self._computed[name] = compute()
        return self._computed[name]


@dataclass(frozen=True)
class Request:
    """One ensemble."""

    name: str
    """Folder name of this ensemble, below the experiment's own folder."""
    title: str
    """Title of these models, which is printed before they are trained."""
    masks: Bool[np.ndarray, "models train"]
    """`masks[t, i]` says whether model t is trained on example i."""
    keys: jax.Array | ModelKeys
    """One key a model."""
    recipe: Recipe
    """Recipe by which each model is trained."""
    model: str | None = None
    """Registered name of the architecture, where it differs from the one that `carry_out` is given."""
    overrides: Mapping[str, np.ndarray] | None = None
    """Fields of the recipe that differ from model to model, with one value a model."""
    keep_weights: bool = False
    """Whether the final weights are kept, too."""
    max_diverged: float = 0.05
    """Share of its models that may diverge; the others' results do not depend on them."""
    initial: Callable[[Runs], Variables] | None = None
    """Computes the weights to start from, given the ensembles before; None starts at random."""
    complete: Callable[[Runs], "Request"] | None = None
    """Makes the final request, given the ensembles before, where these decide values in it. Until they are trained, the cost
    is that of what is written here, so it must be at least as large as the final request."""

    @property
    def depends(self) -> bool:
        """Whether it follows from the ensembles before."""
        return self.initial is not None or self.complete is not None

    def final(self, before: Runs) -> "Request":
        """The request with every value decided, now that the ensembles before it are there."""
        return self if self.complete is None else self.complete(before)

    def arguments(self, data: Dataset, model: str) -> dict[str, Any]:
        """The arguments of `train_ensemble` that decide the cost."""
        return {
            "masks": self.masks,
            "keys": self.keys,
            "data": data,
            "model": self.model or model,
            "recipe": self.recipe,
            "overrides": self.overrides,
            "keep_weights": self.keep_weights,
        }


def print_costs(requests: Sequence[Request], data: Dataset, model: str, out: Path) -> None:
    """Print what it costs to train the ensembles that are not finished, in all and one by one. Nothing is trained or written.

    What follows from models that are not trained yet is declared as the most that it can be.

    Raises:
      Mistake: what `train_ensemble` would refuse.
    """
    runs, costs = Runs(out), []
    for number, asked in enumerate(requests):
        with mistakes():
            before = runs if len(runs) == number else None
            request = asked if before is None else asked.final(before)
            console.print(f"\n[bold]{request.title}[/bold]")
            ensemble = None if request.depends and before is None else _open_finished(out / request.name)
            if ensemble is not None:
                runs[request.name] = ensemble
                _say_read(request, out)
            else:
                # Without weights to start from, random ones cost the same, but are another run.
                run_dir = None if request.depends else out / request.name
                costs.append(cost_of_job(Job.make(**request.arguments(data, model)), run_dir))
                console.print(costs[-1].describe(), markup=False)
    models, seconds = sum(cost.num_models - cost.finished for cost in costs), sum(cost.seconds for cost in costs)
    console.print(
        f"\n[bold]In all[/bold] {models} models to train, {sum(cost.flops for cost in costs):.3g} FLOPs, "
        f"{format_bytes(sum(cost.disk_bytes for cost in costs))} of disk at most, about {format_seconds(seconds)} on this "
        "device. Nothing was trained."
    )


def carry_out(requests: Sequence[Request], data: Dataset, config: Options, out: Path) -> Runs:
    """Train the ensembles in their order, or read those that are finished: by a cluster or only a part of each, if asked for.

    Raises:
      NothingMore: with `part`, when that part is trained; ensembles that follow from others wait until these have all parts.
      Mistake: what `train_ensemble` refuses.
    """
    with mistakes():
        chosen = parse_part(config.part, config.cluster)
        check_whole(config.jobs, "--jobs")
    runs = Runs(out)
    for asked in requests:
        if chosen is not None and asked.depends and not all(each.complete for each in runs.values()):
            console.print(
                f"\n{asked.title}: they follow from the models before, of which not every part is there yet.",
                markup=False,
            )
            break
        with mistakes():
            request = asked.final(runs)
            console.print(f"\n[bold]{request.title}[/bold]")
            runs[request.name] = _train(request, runs, data, config, chosen)
    if chosen is not None:
        console.print(
            f"\nPart {config.part} is trained. When every part is, the same command without --part shows the results.",
            markup=False,
        )
        raise NothingMore
    return runs


def _open_finished(run_dir: Path) -> Ensemble | None:
    """The ensemble in a directory, if all its models are there."""
    if not run_dir.exists():
        return None
    with _diverged_models_are_no_news():
        ensemble = Ensemble.open(run_dir).with_diverged()
    return ensemble if ensemble.complete else None


def _train(request: Request, runs: Runs, data: Dataset, config: Options, part: tuple[int, int] | None) -> Ensemble:
    """The ensemble with its diverged models, of which the experiments say themselves what they do with them."""
    arguments = request.arguments(data, config.model)
    initial = None if request.initial is None else request.initial(runs)
    if config.cluster.kind is not None:
        return _train_on_cluster(request, Job.make(**arguments), initial, config, runs.out / request.name)
    begun: list[tuple[Cost, float]] = []

    def announce(cost: Cost) -> None:
        console.print(cost.describe(), markup=False)
        begun.append((cost, time.perf_counter()))

    with _diverged_models_are_no_news():
        ensemble = jaxinfl.train_ensemble(
            **arguments,
            run_dir=runs.out / request.name,
            initial=initial,
            part=part,
            max_diverged=request.max_diverged,
            mixed_devices=config.mixed_devices,
            on_cost=announce,
        ).with_diverged()
    if not begun:
        _say_read(request, runs.out)
    else:
        trained = sum(cost.num_models - cost.finished for cost, _ in begun)
        runs.seconds_per_model[request.name] = (time.perf_counter() - begun[0][1]) / trained
    return ensemble


def _train_on_cluster(
    request: Request, job: Job, initial: Variables | None, config: Options, run_dir: Path
) -> Ensemble:
    if initial is not None:
        job = job.start_from(initial, "initial")
    console.print(f"trained by {config.jobs} processes at most: {config.cluster.kind}", markup=False)
    with _diverged_models_are_no_news():
        return jaxinfl.train_on_cluster(
            job,
            run_dir,
            jobs=config.jobs,
            cluster=config.cluster,
            max_diverged=request.max_diverged,
            mixed_devices=config.mixed_devices,
        ).with_diverged()


def _say_read(request: Request, out: Path) -> None:
    console.print(f"read from {out / request.name}, where they were finished before", markup=False)


@contextlib.contextmanager
def _diverged_models_are_no_news() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".* diverged and are left out", category=RuntimeWarning)
        yield
