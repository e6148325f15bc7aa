"""The ensembles that an experiment needs, declared before any is trained, so that their cost can be told without training."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Bool

import jaxinfl
from experiments.command_line import Mistake, NothingMore, console, mistakes
from jaxinfl import Dataset, Ensemble, ModelKeys, Recipe, RunPlan
from jaxinfl.models import Variables
from jaxinfl.training.plan import format_bytes, format_seconds


@dataclass(frozen=True)
class Request:
    """One ensemble."""

    name: str
    """Of its folder below the experiment's."""
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
    """The request itself, given the ensembles that came before, where these decide values in it. A plan is made from what
    is written here, so numbers of models and sizes of subsets must be the final ones."""


class _Stop(Exception):
    """Leaves `train_ensemble` when its plan is known."""


@dataclass
class _Announcement:
    """Prints what an ensemble will cost, and remembers it."""

    plan_only: bool
    also: Callable[[RunPlan], None] | None = None
    plans: list[RunPlan] = field(default_factory=list)

    def __call__(self, plan: RunPlan) -> None:
        self.plans.append(plan)
        console.print(plan.describe(), markup=False)
        if self.plan_only:
            raise _Stop
        if self.also is not None:
            self.also(plan)


def carry_out(
    requests: Sequence[Request],
    data: Dataset,
    model: str,
    out: Path,
    *,
    plan_only: bool,
    part: str | None,
    on_plan: Callable[[RunPlan], None] | None = None,
) -> dict[str, Ensemble]:
    """Train the ensembles in their order, or read those that are finished; by name. Of each only `part`, "1/4", if given.

    `on_plan` is called when an ensemble's plan is printed and its training starts.

    Raises:
      NothingMore: with `plan_only`, when the cost of all of them is printed; nothing is trained or written. With `part`,
        when it is trained.
      Mistake: what `train_ensemble` refuses; a part of an ensemble that starts from another whose parts are not all there.
    """
    chosen = _parsed(part)
    finished: dict[str, Ensemble] = {}
    plans = []
    for number, request in enumerate(requests):
        console.print(f"\n[bold]{request.title}[/bold]")
        announce = _Announcement(plan_only, on_plan)
        with mistakes():
            try:
                # Of what a plan does not know yet, only the size matters.
                known = len(finished) == number
                finished[request.name] = _train(
                    request, finished if known else None, data, model, out, announce, chosen
                )
            except _Stop:
                pass
        if not announce.plans:
            console.print(f"read from {out / request.name}, where they were finished before", markup=False)
        plans += announce.plans
    if plan_only:
        _print_total(plans)
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


def _train(
    request: Request,
    finished: Mapping[str, Ensemble] | None,
    data: Dataset,
    model: str,
    out: Path,
    announce: _Announcement,
    part: tuple[int, int] | None,
) -> Ensemble:
    """The ensemble with its diverged models, of which the experiments say themselves what they do with them; of one that
    depends on others which are not `finished` (None) the plan alone."""
    depends = request.initial is not None or request.complete is not None
    if part is not None and depends and finished and not all(each.complete for each in finished.values()):
        raise Mistake(f"{request.title}: they follow from the models before, of which not every part is there yet.")
    if finished is not None and request.complete is not None:
        request = request.complete(finished)
    # A plan writes nothing, but what is finished already need not be planned.
    in_memory = announce.plan_only and ((depends and finished is None) or not (out / request.name).exists())
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".* diverged and are left out", category=RuntimeWarning)
        return jaxinfl.train_ensemble(
            request.masks,
            request.keys,
            data=data,
            model=request.model or model,
            recipe=request.recipe,
            run_dir=None if in_memory else out / request.name,
            overrides=request.overrides,
            keep_weights=request.keep_weights,
            # Without weights to start from, random ones cost the same.
            initial=None if request.initial is None or finished is None else request.initial(finished),
            part=None if in_memory else part,
            max_diverged=request.max_diverged,
            on_plan=announce,
        ).with_diverged()


def _print_total(plans: Sequence[RunPlan]) -> None:
    models, seconds = sum(plan.num_models - plan.finished for plan in plans), sum(plan.seconds for plan in plans)
    console.print(
        f"\n[bold]In all[/bold] {models} models to train, {sum(plan.flops for plan in plans):.3g} FLOPs, "
        f"{format_bytes(sum(plan.disk_bytes for plan in plans))} of disk at most, about {format_seconds(seconds)} on this "
        "device. Nothing was trained."
    )
