"""One virtual CPU device a core, so that models sharded over devices use the whole machine."""

import os
from typing import Any

import jax
import psutil

_THREADS = "NPROC"
"""Read by XLA when it starts."""
_COUNT_FLAG = "xla_force_host_platform_device_count"


def use_every_core() -> None:
    """Give JAX one CPU device a core; called when jaxinfl is imported, which must be before JAX starts its backends.

    Measured on 2 cores: two devices with a model each train 1.6 times as many models as one device with two threads
    (DESIGN: 30,300 against 18,400 an hour), because layers of small models are too small to split.
    A choice of the user (JAX_NUM_CPU_DEVICES, `jax_num_cpu_devices`, XLA_FLAGS) stands, and any choice up to 8 gives the
    same bits. Other platforms do not care.
    """
    if _chosen_by_user():
        # XLA's threads are as many as cores or devices, whichever are more, and the order of the sums in a large matrix
        # product depends on them. 8 threads on 2 cores slow a large MLP down by a quarter, CNNs not: hence not always.
        os.environ.setdefault(_THREADS, str(max(8, num_cores())))
        return
    try:
        jax.config.update("jax_num_cpu_devices", num_cores())
    except RuntimeError:
        # JAX is running already. `train_ensemble` says so when it finds fewer devices than cores.
        pass


def own_devices() -> tuple[jax.Device, ...]:
    """The devices of this process: a run belongs to one process, and those of others cannot be given work."""
    return tuple(jax.local_devices())


def num_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def unused_cores() -> int:
    """Cores without a CPU device, for no reason that the user gave."""
    return 0 if _chosen_by_user() or jax.default_backend() != "cpu" else num_cores() - len(own_devices())


def _chosen_by_user() -> bool:
    settings: Any = jax.config  # JAX 0.10 does not declare them
    configured: int = settings.jax_num_cpu_devices
    return configured != -1 or _COUNT_FLAG in os.environ.get("XLA_FLAGS", "")


def describe(devices: tuple[jax.Device, ...]) -> str:
    """Number and kind of devices, for people."""
    return f"{len(devices)} x {devices[0].device_kind}"


def free_memory(device: jax.Device) -> int | None:
    """Bytes that may still be allocated on a device; of the host, if it is a CPU. None where nothing is known."""
    if device.platform == "cpu":
        return int(psutil.virtual_memory().available)
    stats = device.memory_stats()
    return None if not stats or "bytes_limit" not in stats else stats["bytes_limit"] - stats.get("bytes_in_use", 0)
