"""How a job is run: its programs on the devices of this process, and its data on them.

A machine is a value. One that trains half as many models at once, or whose kernels are others, is another machine.
"""

import logging
from dataclasses import dataclass, replace

import jax

from jaxinfl import devices as host
from jaxinfl.training.execution import Execution
from jaxinfl.training.job import Job
from jaxinfl.training.limits import OutOfMemory, check_fits, out_of_memory
from jaxinfl.training.programs import Programs, build_programs
from jaxinfl.training.step import DeviceData
from jaxinfl.training.views import Views

_log = logging.getLogger("jaxinfl")


@dataclass(frozen=True)
class Machine:
    """Compiled programs and placed data of one job, for one way of running it."""

    execution: Execution
    devices: tuple[jax.Device, ...]
    programs: Programs
    data: DeviceData

    @classmethod
    def for_job(cls, job: Job, execution: Execution, views: Views = "one", near: "Machine | None" = None) -> "Machine":
        """The machine that runs a job in one way; `views` are what it averages over when it evaluates.

        `near` is a machine for the same job: its data are taken over where the devices are the same.

        Raises:
          OutOfMemory: the images do not fit on a device.
        """
        devices = host.own_devices()[: execution.num_devices]
        placed = near.data if near is not None and near.devices == devices else None
        if placed is None:
            check_fits(job.data, devices)
        # Trained programs and those of one view are the same: a second call compiles nothing.
        programs = build_programs(job.model, job.recipe, execution, devices, *(() if views == "one" else (views,)))
        return cls(execution, devices, programs, programs.place_data(job.data) if placed is None else placed)

    def halved(self, job: Job, error: Exception) -> "Machine":
        """A machine for half as many models at once, if it was memory that ran out; else raise what was raised.

        Raises:
          OutOfMemory: there is only one model at a time already.
        """
        if not out_of_memory(error):
            raise error
        width = self.execution.width
        if width == 1:
            raise OutOfMemory(
                f"{host.describe(self.devices)}: not even one {job.model.name} at a time fits in memory with batches of "
                f"{job.recipe.batch_size}: {str(error).splitlines()[0]}. Use a smaller batch_size or images."
            ) from error
        half = self.execution.changed(width // 2, self.execution.kernels, self.execution.num_devices)
        _log.warning(
            "Out of memory with %s models at once on a device: going on with %s. Pass width=%s to start like that.",
            width,
            half.width,
            half.width,
        )
        return Machine.for_job(job, replace(half, reason=f"{width} do not fit in memory"), near=self)


def warn_of_idle_cores() -> None:
    """Warn where JAX was started before it could be given a device for each core."""
    if host.unused_cores() > 0:
        _log.warning(
            "JAX was started before jaxinfl was imported and has %s CPU device(s) for %s cores. "
            "Import jaxinfl first, or set JAX_NUM_CPU_DEVICES, to use them all.",
            len(host.own_devices()),
            host.num_cores(),
        )


__all__ = ["Machine", "warn_of_idle_cores"]
