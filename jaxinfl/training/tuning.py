"""Search for the fastest way to run a step on this machine: a few ways are timed, the fastest is taken and remembered.

A way is a width (models at once on a device), a kind of kernels and a number of devices. They change the last bits of the
models, so noise must not choose between them. The platform's own way stays unless another is faster by `WORTH_IT`. The
result for a model and recipe on a kind of device is kept in a file that later runs read.

On CPUs each way differs from the fastest so far in one respect. On graphics cards, where the fastest way may be far from the default, the
formula of `models/way.py` says what each way should cost, and the times so far correct it.
"""

import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import jax

from jaxinfl import native, provenance
from jaxinfl.devices import own_devices
from jaxinfl.files import cache_folder, write_atomically
from jaxinfl.models.layers import Kernels
from jaxinfl.models.way import GOOD_ENOUGH, Way, choose_way
from jaxinfl.store import RunDirectoryError
from jaxinfl.training.agreement import Agreement, Devices
from jaxinfl.training.cost import Cost, measure_cost, time_step
from jaxinfl.training.job import Job
from jaxinfl.training.machine import (
    Machine,
    choose_execution,
    kernels_differ,
    list_job_ways,
    out_of_memory,
    warn_of_idle_cores,
)
from jaxinfl.training.programs import Execution

MAX_SECONDS, MAX_CARD_SECONDS, MAX_SHARE = 20.0, 600.0, 0.05
"""Longest time of the search with compilation: in seconds on CPUs and on other devices, and as a share of the estimated run.

To compile the step of Inception v3 for a graphics card takes one to two minutes."""
TRIAL_SECONDS = 5.0
"""Seconds that timing a way is expected to take at least: its program may have to be compiled."""
CONFIRMATIONS = 5
"""Number of times that the fastest way and the platform's own are timed again."""
WORTH_A_TRIAL = 1.05
"""Speedup over the fastest way so far that the formula of a card must expect of another one that is timed."""
WORTH_IT = 1.2
"""Speedup over the platform's own way from which another is taken: the noise of a shared machine reaches 1.15."""


@dataclass(frozen=True)
class Freedom:
    """The choices that the search may change, because the user has not fixed them."""

    width: bool
    """Whether the width may change."""
    kernels: bool
    """Whether the kernels may change."""
    devices: bool
    """Whether fewer virtual devices may be taken, which may be faster where two share a core."""
    most: int
    """Number of models of the run: a wider group would be padded."""


@dataclass
class Search:
    """The ways that were timed, with the platform's own first."""

    seconds: dict[Execution, float] = field(default_factory=dict)
    """Seconds that one step of one model takes, by way; infinite where the device had too little memory."""
    complete: bool = False
    """Whether no neighbour of the fastest way is left to try."""

    @property
    def best(self) -> Execution:
        """The fastest way if it clearly beats the platform's own, else that one, with the reason in words."""
        own, fastest = next(iter(self.seconds)), min(self.seconds, key=self.seconds.__getitem__)
        chosen = fastest if self.seconds[fastest] * WORTH_IT < self.seconds[own] else own
        times = {way: self.seconds[way] / self.seconds[chosen] for way in self.seconds if way is not chosen}
        if not times:
            return chosen
        others = ", ".join(f"{_name(way, own)} {_times(ratio)}" for way, ratio in times.items())
        return dataclasses.replace(chosen, reason=f"of {len(self.seconds)} ways timed; {others}")

    def go_on(self, next_way: "NextWay", measure: Callable[[Execution], float], budget: float, expected: float) -> None:
        """Time ways until none is left, or until the next one is expected to exceed the budget in seconds."""
        begun = time.perf_counter()
        while (way := next_way(self.seconds)) is not None:
            started = time.perf_counter()
            if started - begun + expected > budget:
                return
            self.seconds[way] = measure(way)
            expected = time.perf_counter() - started
        self.complete = True

    def confirm(self, measure: Callable[[Execution], float]) -> None:
        """Time the fastest way and the platform's own again in turns, so that a busy moment of the machine does not decide."""
        own, fastest = next(iter(self.seconds)), min(self.seconds, key=self.seconds.__getitem__)
        if fastest == own:
            return
        again = [(measure(own), measure(fastest)) for _ in range(CONFIRMATIONS)]
        self.seconds[own], self.seconds[fastest] = map(min, zip(*again, strict=True))


Timed = Mapping[Execution, float]
"""Seconds that one step of one model takes, by way; the platform's own way is the first."""
NextWay = Callable[[Timed], Execution | None]
"""A function of the ways timed so far that gives the next one to time; None where no other is worth a trial."""


def next_neighbour(freedom: Freedom, timed: Timed) -> Execution | None:
    """The next neighbour of the fastest way that was not timed yet."""
    own, fastest = next(iter(timed)), min(timed, key=timed.__getitem__)
    return next((way for way in _neighbours(fastest, own, freedom) if way not in timed), None)


def _neighbours(way: Execution, own: Execution, freedom: Freedom) -> Iterator[Execution]:
    """Yield the ways that differ from `way` in one respect; they are changes of `own`, which decides their lanes."""
    if freedom.kernels:
        # On CPUs "xla" is ten times slower.
        for kernels in ("native", "gemm"):
            if kernels != "native" or native.why_unavailable() is None:
                yield own.change(way.width, kernels, way.num_devices)
    if freedom.width:
        if 2 * way.width * way.num_devices <= freedom.most:
            yield own.change(2 * way.width, way.kernels, way.num_devices)
        if way.width > 1:
            yield own.change(way.width // 2, way.kernels, way.num_devices)
    if freedom.devices and way.num_devices > 1:
        yield own.change(way.width, way.kernels, way.num_devices // 2)


def next_by_formula(costs: Mapping[Execution, float], first: Sequence[Execution], timed: Timed) -> Execution | None:
    """The way that is expected to be the fastest of those not timed yet, if it is expected to beat all that were.

    The formula's best ones are timed first. After that a way is expected to take what the formula says times what the nearest
    width of the same kernels took beyond its own. Of several that are expected to take about as long the narrowest is timed. Where
    nothing better is expected, the widths beside the fastest are. Wider groups than one that did not fit are left out.

    Args:
      costs: cost of each way by the formula, in any unit.
      first: the best ways by the formula.
      timed: the ways timed so far.
    """
    if (begin := next((way for way in first if way not in timed), None)) is not None:
        return begin
    full = [way for way, seconds in timed.items() if math.isinf(seconds)]
    # A run of more models may have timed wider groups than this one takes, and the record is the same.
    known = [way for way in timed if way in costs and way not in full]

    def expect(way: Execution) -> float:
        near = min(known, key=lambda each: (each.kernels != way.kernels, abs(math.log2(each.width / way.width))))
        return costs[way] * timed[near] / costs[near]

    left = {way: expect(way) for way in costs if way not in timed and not any(_contains(way, other) for other in full)}
    fastest = min(timed, key=timed.__getitem__)
    least = min(left.values(), default=math.inf)
    if WORTH_A_TRIAL * least < timed[fastest]:
        limit = min(GOOD_ENOUGH * least, timed[fastest])
        return min((way for way in left if left[way] <= limit), key=lambda way: (way.width, left[way]))
    beside = [way for way in left if way.kernels == fastest.kernels and _are_beside(way, fastest)]
    return min(beside, key=left.__getitem__, default=None)


def _contains(way: Execution, other: Execution) -> bool:
    """Whether a group is at least as wide as another one with the same kernels."""
    return way.kernels == other.kernels and way.width >= other.width


def _are_beside(way: Execution, other: Execution) -> bool:
    """Whether one group is twice as wide as the other."""
    return max(way.width, other.width) == 2 * min(way.width, other.width)


def _choose_strategy(job: Job, own: Execution, freedom: Freedom) -> NextWay:
    """Choose how the next way is found on this platform."""
    if own.platform == "cpu":
        return partial(next_neighbour, freedom)
    ways = list_job_ways(job, None if freedom.width else own.width, None if freedom.kernels else own.kernels)
    return by_formula(ways, own, max(own.width, freedom.most // own.num_devices))


def by_formula(ways: Mapping[Way, float], own: Execution, widest: int) -> NextWay:
    """The strategy of a card, on the ways that fit into its memory and are at most `widest` wide.

    Its best ways are the one that it would choose, and the one that it would choose by other kernels.
    """
    fitting = {way: cost for way, cost in ways.items() if way.fits and way.width <= widest}
    costs = {own.change(way.width, way.kernels, own.num_devices): cost for way, cost in fitting.items()}
    # What does not fit by the formula may be the default all the same, or what the user asked for.
    costs.setdefault(
        own, next(cost for way, cost in ways.items() if (way.width, way.kernels) == (own.width, own.kernels))
    )
    best = choose_way(fitting) if fitting else None
    others = {way: cost for way, cost in fitting.items() if best is not None and way.kernels != best.kernels}
    first = [way for way in (best, choose_way(others) if others else None) if way is not None]
    return partial(next_by_formula, costs, [own.change(way.width, way.kernels, own.num_devices) for way in first])


def _name(way: Execution, own: Execution) -> str:
    """Name a way by what distinguishes it from the platform's own."""
    parts: list[str] = [way.kernels] if way.kernels != own.kernels else []
    parts += [f"width {way.width}"] if way.width != own.width else []
    parts += [f"{way.num_devices} devices"] if way.num_devices != own.num_devices else []
    return " ".join(parts) or "the default"


def _times(ratio: float) -> str:
    return "does not fit in memory" if math.isinf(ratio) else f"takes {ratio:.2f} times as long"


@dataclass(frozen=True)
class SearchRecord:
    """The file in which the search for one model, recipe and kind of device is kept."""

    path: Path

    @classmethod
    def for_job(cls, job: Job, freedom: Freedom, default: Execution) -> "SearchRecord":
        """Make the record for a job, whose name is a hash of everything on which the answer depends."""
        versions = provenance.versions()
        key = {
            "device": own_devices()[0].device_kind,
            "default": dataclasses.asdict(dataclasses.replace(default, reason="")),
            "native": native.why_unavailable() is None if default.platform == "cpu" else None,
            "freedom": [freedom.width, freedom.kernels, freedom.devices],
            "model": job.model.fingerprint,
            "recipe": job.recipe.to_dict(),
            "shapes": [job.data.num_train, job.data.num_test, str(job.inputs)],
            "versions": {name: versions[name] for name in ("jaxinfl", "jax", "jaxlib")},
        }
        name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:24]
        return cls(cache_folder("tuned") / f"{name}.json")

    def read(self) -> Search:
        """Read an earlier search; an empty one where there is none, or the file cannot be read."""
        try:
            content: Any = json.loads(self.path.read_text())
            seconds = {Execution(**way["execution"]): float(way["seconds"]) for way in content["ways"]}
            return Search(seconds, bool(content["complete"])) if seconds else Search()
        except (OSError, ValueError, KeyError, TypeError):
            return Search()

    def write(self, search: Search) -> None:
        """Write the search; where that fails, the next run searches again."""
        ways = [{"execution": dataclasses.asdict(way), "seconds": seconds} for way, seconds in search.seconds.items()]
        text = json.dumps({"ways": ways, "complete": search.complete}, indent=1)
        with suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self.path, text.encode())


def tune(job: Job, machine: Machine, cost: Cost, freedom: Freedom) -> tuple[Machine, Cost]:
    """Search for the fastest machine within the time that the run allows, and return it with the cost of the job on it."""
    record = SearchRecord.for_job(job, freedom, machine.execution)
    search = record.read()
    if not search.seconds:
        search.seconds[machine.execution] = cost.seconds_per_step

    def seconds_per_step(way: Execution) -> float:
        try:
            return time_step(job, Machine.for_job(job, way, near=machine)) / way.group
        except (jax.errors.JaxRuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            return math.inf

    if not search.complete:
        known = len(search.seconds)
        most = MAX_SECONDS if machine.execution.platform == "cpu" else MAX_CARD_SECONDS
        strategy = _choose_strategy(job, machine.execution, freedom)
        budget = min(most, MAX_SHARE * cost.seconds)
        search.go_on(strategy, seconds_per_step, budget, max(cost.compile_seconds, TRIAL_SECONDS))
        search.confirm(seconds_per_step)
        if len(search.seconds) > known or search.complete:
            record.write(search)
    if search.best != machine.execution:
        best = Machine.for_job(job, search.best, near=machine)
        machine, cost = measure_cost(job, best, cost.num_models, cost.finished)
    # Ways are equal whatever their reasons, and compiled programs are kept by way.
    return machine, dataclasses.replace(cost, execution=search.best) if search.best.reason else cost


@dataclass(frozen=True)
class MachineChoice:
    """The user's choices for running a job; the rest is searched for."""

    width: int | None = None
    kernels: Kernels | None = None
    tune: bool = True
    mixed_devices: bool = False
    """Whether a run may go on on devices of another kind, which ends the promise of the same bits."""

    def machine(
        self,
        job: Job,
        agreed: Agreement | None,
        models: int,
        finished: int,
        *,
        path: Path | None = None,
        keeps_width: bool = False,
        look: Callable[[], None] = lambda: None,
    ) -> tuple[Machine, Cost]:
        """Make the machine for a job, and estimate what `models` of it cost there, of which some are `finished`.

        What was agreed on for the run in `path` is kept to. With `keeps_width` too little memory for the width is an error, because
        other processes train models of the same run at this width. `look` is called between the steps, which take seconds.

        Raises:
          OutOfMemory: not even one model at a time fits, or not the width that is kept.
          RunDirectoryError: this process cannot keep to what was agreed on, or the user chose something else.
        """
        warn_of_idle_cores()
        width, kernels, num_devices = self.width, self.kernels, None
        choice = kernels is None and kernels_differ(job.model, job.inputs, jax.default_backend())
        freedom = Freedom(width is None, choice, devices=True, most=len(job))
        if agreed is not None:
            width, kernels, num_devices = self._keep_to(agreed, path)
        execution = choose_execution(
            job.model, job.recipe, job.data, width=width, kernels=kernels, num_devices=num_devices, steps=job.steps
        )
        machine = Machine.for_job(job, execution)
        machine, cost = measure_cost(job, machine, models, finished)
        if keeps_width and agreed is not None and not self.mixed_devices and machine.execution.width != agreed.width:
            machine.give_up(job, MemoryError(f"width {agreed.width} does not fit"))
        look()
        if self.tune and agreed is None:
            machine, cost = tune(job, machine, cost, freedom)
            look()
        return machine, cost

    def _keep_to(self, agreed: Agreement, path: Path | None) -> tuple[int | None, Kernels | None, int | None]:
        """Return the width, kernels and number of devices that were agreed on, as far as they can be had here.

        Raises:
          RunDirectoryError: the user chose others.
          Disagreement: the devices are of another kind, and may not be mixed.
        """
        for name, given in (("width", self.width), ("kernels", self.kernels)):
            recorded = getattr(agreed, name)
            if given is not None and given != recorded:
                raise RunDirectoryError(
                    f"{path or 'the run'} belongs to another run: it differs in {name}: {recorded!r} there, {given!r} now, and the "
                    f"models would differ in their last bits. Leave {name} out, or use another run_dir."
                )
        here = Devices.here()
        # Runs that are too old to record the device of each model cannot mix them.
        if not self.mixed_devices or agreed.devices.kind is None:
            agreed.devices.check_kind(here, path)
        elif agreed.devices.platform != here.platform:
            # Width and kernels of a card are no choice for a processor.
            return None, None, None
        return agreed.width, agreed.kernels, agreed.num_devices if agreed.devices.available == here.available else None


__all__ = ["MAX_SECONDS", "MAX_SHARE", "TRIAL_SECONDS", "Freedom", "MachineChoice", "Search", "SearchRecord", "tune"]
