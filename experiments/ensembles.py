"""The ensembles that an experiment needs, declared before any is trained, so that their cost can be told without training."""

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool

import jaxinfl
from experiments.command_line import Mistake, NothingMore, console, mistakes
from jaxinfl import Cost, Dataset, Ensemble, ModelKeys, Recipe
from jaxinfl.models import Variables
from jaxinfl.training import Job, cost_of_job
from jaxinfl.units import format_bytes, format_seconds


@dataclass(frozen=True)
class Request:
    """One ensemble."""

    name: str
    """Folder name of this ensemble, below the experiment's own folder."""
    title: str
    masks: Bool[np.ndarray, "models train"]
    keys: jax.Array | ModelKeys
    recipe: Recipe
    model: str | None = None
    """Registered name of the architecture, where it is not the one that `carry_out` is given."""
    overrides: Mapping[str, np.ndarray] | None = None
    keep_weights: bool = False
    max_diverged: float = 0.05
    """Share of its models that may diverge; the others' results do not depend on them."""
    initial: Callable[[Mapping[str, Ensemble]], Variables] | None = None
    """Weights to start from, given the ensembles that came before; None starts at random."""
    complete: Callable[[Mapping[str, Ensemble]], "Request"] | None = None
    """The request itself, given the ensembles that came before, where these decide values in it. The cost is told from what
    is written here, so numbers of models and sizes of subsets must be the final ones."""

    @property
    def depends(self) -> bool:
        """Whether it follows from the ensembles before."""
        return self.initial is not None or self.complete is not None

    def arguments(self, data: Dataset, model: str) -> dict[str, Any]:
        """What `train_ensemble` and `training_cost` both take."""
        return {
            "masks": self.masks,
            "keys": self.keys,
            "data": data,
            "model": self.model or model,
            "recipe": self.recipe,
            "overrides": self.overrides,
            "keep_weights": self.keep_weights,
        }


@dataclass
class _Announcement:
    """Prints what an ensemble will cost, and remembers it."""

    also: Callable[[Cost], None] | None = None
    costs: list[Cost] = field(default_factory=list)

    def __call__(self, cost: Cost) -> None:
        self.costs.append(cost)
        console.print(cost.describe(), markup=False)
        if self.also is not None:
            self.also(cost)


def carry_out(
    requests: Sequence[Request],
    data: Dataset,
    model: str,
    out: Path,
    *,
    cost_only: bool,
    part: str | None,
    on_cost: Callable[[Cost], None] | None = None,
) -> dict[str, Ensemble]:
    """Train the ensembles in their order, or read those that are finished; by name. Of each only `part`, "1/4", if given.

    `on_cost` is called when an ensemble's cost is printed and its training starts.

    Raises:
      NothingMore: with `cost_only`, when the cost of all of them is printed; nothing is trained or written. With `part`,
        when it is trained.
      Mistake: what `train_ensemble` refuses; a part of an ensemble that starts from another whose parts are not all there.
    """
    chosen = _parsed(part)
    finished: dict[str, Ensemble] = {}
    costs = []
    for number, request in enumerate(requests):
        console.print(f"\n[bold]{request.title}[/bold]")
        announce = _Announcement(on_cost)
        known = finished if len(finished) == number else None
        with mistakes():
            ensemble = _finished(request, known, out) if cost_only else None
            if cost_only and ensemble is None:
                announce(_cost(request, known, data, model, out))
            elif not cost_only:
                ensemble = _train(request, finished, data, model, out, announce, chosen)
        if ensemble is not None:
            finished[request.name] = ensemble
        if not announce.costs:
            console.print(f"read from {out / request.name}, where they were finished before", markup=False)
        costs += announce.costs
    if cost_only:
        _print_total(costs)
        raise NothingMore
    if chosen is not None:
        console.print(
            f"\nPart {part} is trained. When every part is, the same command without --part shows the results.",
            markup=False,
        )
        raise NothingMore
    return finished


def _parsed(part: str | None) -> tuple[int, int] | None:
    """(1, 4) of "1/4"."""
    if part is None:
        return None
    number, slash, parts = part.partition("/")
    if not (slash and number.isdecimal() and parts.isdecimal() and 1 <= int(number) <= int(parts)):
        raise Mistake(f"--part is {part!r}; it takes a number and a count, 1/4 for the first quarter of the models.")
    return int(number), int(parts)


def _finished(request: Request, before: Mapping[str, Ensemble] | None, out: Path) -> Ensemble | None:
    """The ensemble, if all its models are there and what it may depend on, the ensembles `before`, is known."""
    if not (out / request.name).exists() or (request.depends and before is None):
        return None
    with _diverged_models_are_no_news():
        ensemble = Ensemble.open(out / request.name).with_diverged()
    return ensemble if ensemble.complete else None


def _cost(request: Request, before: Mapping[str, Ensemble] | None, data: Dataset, model: str, out: Path) -> Cost:
    """What the ensemble costs; of what is not trained yet (`before` is None) and it depends on, only the size matters."""
    # Without weights to start from, random ones cost the same, but are another run.
    run_dir = None if request.depends else out / request.name
    if before is not None and request.complete is not None:
        request = request.complete(before)
    arguments = request.arguments(data, model)
    keep_weights = arguments.pop("keep_weights")
    return cost_of_job(Job.make(**arguments), run_dir, keep_weights=keep_weights)


def _train(
    request: Request,
    finished: Mapping[str, Ensemble],
    data: Dataset,
    model: str,
    out: Path,
    announce: _Announcement,
    part: tuple[int, int] | None,
) -> Ensemble:
    """The ensemble with its diverged models, of which the experiments say themselves what they do with them."""
    if part is not None and request.depends and finished and not all(each.complete for each in finished.values()):
        raise Mistake(f"{request.title}: they follow from the models before, of which not every part is there yet.")
    if request.complete is not None:
        request = request.complete(finished)
    with _diverged_models_are_no_news():
        return jaxinfl.train_ensemble(
            **request.arguments(data, model),
            run_dir=out / request.name,
            initial=None if request.initial is None else request.initial(finished),
            part=part,
            max_diverged=request.max_diverged,
            on_cost=announce,
        ).with_diverged()


@contextlib.contextmanager
def _diverged_models_are_no_news() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".* diverged and are left out", category=RuntimeWarning)
        yield


def _print_total(costs: Sequence[Cost]) -> None:
    models, seconds = sum(cost.num_models - cost.finished for cost in costs), sum(cost.seconds for cost in costs)
    console.print(
        f"\n[bold]In all[/bold] {models} models to train, {sum(cost.flops for cost in costs):.3g} FLOPs, "
        f"{format_bytes(sum(cost.disk_bytes for cost in costs))} of disk at most, about {format_seconds(seconds)} on this "
        "device. Nothing was trained."
    )
