"""One virtual CPU device a core, so that models sharded over devices use the whole machine."""

import os
from typing import Any

import jax
import psutil

_THREADS = "NPROC"
"""Environment variable from which XLA takes the number of its threads when it starts."""
_COUNT_FLAG = "xla_force_host_platform_device_count"


def use_every_core() -> None:
    """Give JAX one CPU device for each core; called when jaxinfl is imported, which must be before JAX starts its backends.

    On 2 cores, two devices with a model each train 30,300 models an hour, and one device with two threads 18,400: layers of
    small models are too small to split.
    A choice of the user (JAX_NUM_CPU_DEVICES, `jax_num_cpu_devices`, XLA_FLAGS) stands, and any choice up to 8 gives the
    same bits. Other platforms ignore the number of CPU devices.
    """
    if _user_chose():
        # XLA starts as many threads as there are cores or devices, whichever are more, and the order of the sums in a
        # large matrix product depends on their number. Only here are there always 8: on 2 cores they slow a large MLP
        # down by a quarter.
        os.environ.setdefault(_THREADS, str(max(8, num_cores())))
        return
    try:
        jax.config.update("jax_num_cpu_devices", num_cores())
    except RuntimeError:
        # JAX is running already. `train_ensemble` says so when it finds fewer devices than cores.
        pass


def own_devices() -> tuple[jax.Device, ...]:
    """The devices of this process: a run belongs to one process, which cannot give work to the devices of others."""
    return tuple(jax.local_devices())


def num_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def unused_cores() -> int:
    """Number of cores that have no CPU device although the user did not ask for that."""
    return 0 if _user_chose() or jax.default_backend() != "cpu" else num_cores() - len(own_devices())


def _user_chose() -> bool:
    """Whether the user set the number of CPU devices."""
    settings: Any = jax.config  # JAX 0.10 does not declare them
    configured: int = settings.jax_num_cpu_devices
    return configured != -1 or _COUNT_FLAG in os.environ.get("XLA_FLAGS", "")


def describe(devices: tuple[jax.Device, ...]) -> str:
    """Number and kind of devices, for people."""
    return f"{len(devices)} x {devices[0].device_kind}"


def free_memory(device: jax.Device) -> int | None:
    """Bytes that may still be allocated on a device, or on the host for a CPU; None where the device does not tell."""
    if device.platform == "cpu":
        return int(psutil.virtual_memory().available)
    stats = device.memory_stats()
    return None if not stats or "bytes_limit" not in stats else stats["bytes_limit"] - stats.get("bytes_in_use", 0)


def total_memory(device: jax.Device) -> int | None:
    """Bytes that JAX may use on an accelerator, whatever is in use now; None where the device does not tell."""
    stats = device.memory_stats()
    return stats.get("bytes_limit") if stats else None
