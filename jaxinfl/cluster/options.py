"""`Cluster`: where the models of a run are trained, if not in this process."""

import math
import re
from dataclasses import dataclass, fields
from types import NoneType
from typing import Annotated, Any, Literal, get_args

import tyro

from jaxinfl.arguments import check_choice, check_whole, quote

Kind = Literal["local", "slurm", "ray"]
"""Kinds of clusters: processes of this machine, jobs of Slurm, or a pool of Ray."""
_UNITS = {"s": 1 / 60, "m": 1.0, "h": 60.0, "d": 1440.0}
_TIME = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd])")
_CLOCK = re.compile(r"(?:(\d+):)?(\d{1,3}):(\d{2})")
_DAYS = re.compile(r"(\d+)-(\d{1,2})(?::(\d{2}))?(?::(\d{2}))?")
_MEMORY = re.compile(r"(\d+(?:\.\d+)?)\s*(MB|GB|TB|M|G|T)", re.IGNORECASE)
_ONLY = {
    "partition": ("slurm",),
    "account": ("slurm",),
    "qos": ("slurm",),
    "constraint": ("slurm",),
    "memory": ("slurm",),
    "setup": ("slurm",),
    "time": ("slurm", "local"),
    "address": ("ray",),
}
"""The kinds that take an option, where not all do."""


@dataclass(frozen=True)
class Cluster:
    """Where the models of a run are trained, if not in this process.

    Raises:
      TypeError, ValueError: an option has a value that it does not take, or belongs to another kind of cluster.
    """

    kind: Annotated[Kind | None, tyro.conf.arg(name="")] = None
    """Kind of the cluster: local starts processes on this machine, slurm submits jobs, ray takes the devices of a pool; None trains in this process."""
    partition: str | None = None
    """Partition of Slurm to which jobs are submitted; None takes the cluster's own default."""
    time: str | None = None
    """Time limit of a job, such as 90m, 4h or 1-12:00:00; None takes 4 hours on Slurm and no limit elsewhere. A job that reaches it is put back into the queue and goes on from its checkpoint."""
    gpus: int | None = None
    """Number of GPUs of each job; None takes 1 on Slurm, none on this machine, and on Ray 1 where the pool has any."""
    cores: int | None = None
    """Number of processor cores of each job; None takes 4 on Slurm, 1 on Ray, and divides those of this machine."""
    memory: str | None = None
    """Main memory of each job on Slurm, such as 32GB; None takes the cluster's own default."""
    account: str | None = None
    """Account of Slurm that is charged; None takes the user's own default."""
    qos: str | None = None
    """Quality of service of Slurm's jobs; None takes the cluster's own default."""
    constraint: str | None = None
    """Features that Slurm's nodes must have, such as h100; all jobs must get devices of one kind."""
    setup: tuple[str, ...] = ()
    """Lines of shell that each job of Slurm runs before Python starts, such as "module load cuda"."""
    address: str | None = None
    """Address of a pool of Ray, such as 10.0.0.1:6379 or auto; None starts a pool on this machine."""
    on_interrupt: Literal["cancel", "leave"] | None = None
    """What Ctrl-C does with the jobs: cancel ends them when their work is saved, leave lets them go on; None leaves those of Slurm and cancels others."""
    retries: int = 3
    """Number of times in a row that a job may fail without a new finished model or checkpoint before the run ends with its error."""

    def __post_init__(self) -> None:
        if self.kind is not None:
            check_choice(self.kind, "cluster kind", get_args(Kind))
        for name in ("partition", "time", "memory", "account", "qos", "constraint", "address"):
            if not isinstance(getattr(self, name), (str, NoneType)):
                raise TypeError(f"cluster {name} is {quote(getattr(self, name))}; it takes a string, or None.")
        if not isinstance(self.setup, tuple) or not all(isinstance(line, str) for line in self.setup):
            raise TypeError(
                f"cluster setup is {quote(self.setup)}; it takes a tuple of strings, one for each line of shell."
            )
        for field in fields(self):
            takes = _ONLY.get(field.name, get_args(Kind))
            if field.name != "kind" and self.kind not in takes and getattr(self, field.name) != field.default:
                what = "is given without a cluster" if self.kind is None else f"does not belong to {self.kind}"
                raise ValueError(
                    f"cluster {field.name} is {quote(getattr(self, field.name))}, which {what}; it belongs to {' and '.join(takes)}. Name "
                    "that cluster, or leave the option out."
                )
        if self.on_interrupt is not None:
            check_choice(self.on_interrupt, "cluster on_interrupt", ("cancel", "leave"))
        if self.kind == "ray" and self.on_interrupt == "leave":
            raise ValueError(
                "cluster on_interrupt is 'leave', which ray does not take: the driver writes what its workers train, so that nothing "
                "goes on without it. Finished shards stay. Leave it out."
            )
        check_whole(self.retries, "cluster retries", 0, 1000, "times")
        for name, least in (("gpus", 0), ("cores", 1)):
            if getattr(self, name) is not None:
                check_whole(getattr(self, name), f"cluster {name}", least, 10**6)
        parse_minutes(self.time)
        parse_memory(self.memory)

    @classmethod
    def of(cls, given: Any) -> "Cluster":
        """Return what the user gave as a cluster: a kind by its name, or a `Cluster`.

        Raises:
          TypeError, ValueError: it is neither.
        """
        if isinstance(given, cls) and given.kind is not None:
            return given
        if not isinstance(given, str):
            raise TypeError(
                f'cluster is {quote(given)}; it takes "local", "slurm", "ray" or a jaxinfl.Cluster with options.'
            )
        return cls(given)  # type: ignore[arg-type]  # checked there

    @property
    def leaves_jobs(self) -> bool:
        """Whether jobs go on after Ctrl-C."""
        return self.on_interrupt == "leave" or (self.on_interrupt is None and self.kind == "slurm")


def parse_minutes(time: str | None) -> float | None:
    """Number of minutes of a time limit; None where there is none.

    It is a number with a unit, such as 90m or 4h, or what Slurm takes: minutes:seconds, hours:minutes:seconds, days-hours,
    days-hours:minutes or days-hours:minutes:seconds.

    Raises:
      ValueError: it is no time above 0.
    """
    if time is None:
        return None
    minutes = 0.0
    if (match := _TIME.fullmatch(time.strip())) is not None:
        minutes = float(match[1]) * _UNITS[match[2]]
    elif (match := _CLOCK.fullmatch(time.strip()) or _DAYS.fullmatch(time.strip())) is not None:
        *days, hours, mins, seconds = (int(part or 0) for part in match.groups())
        minutes = 1440 * sum(days) + 60 * hours + mins + seconds / 60
    if not minutes > 0 or not math.isfinite(minutes):
        raise ValueError(
            f"cluster time is {quote(time)}; it takes a time above 0, such as 90m, 4h, 2d, 04:00:00 (hours:minutes:seconds) or 1-12:00:00 (with days)."
        )
    return minutes


def parse_memory(memory: str | None) -> float | None:
    """Number of gigabytes of a memory size, such as 32GB; None where there is none.

    Raises:
      ValueError: it is no size above 0.
    """
    if memory is None:
        return None
    match = _MEMORY.fullmatch(memory.strip())
    if match is None or not float(match[1]) > 0:
        raise ValueError(f"cluster memory is {quote(memory)}; it takes a size above 0, such as 32GB or 500MB.")
    return float(match[1]) * {"M": 1e-3, "G": 1.0, "T": 1e3}[match[2][0].upper()]


__all__ = ["Cluster", "Kind", "parse_memory", "parse_minutes"]
