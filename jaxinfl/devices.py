"""One virtual CPU device a core, so that models sharded over devices use the whole machine."""

import os
import platform
from functools import cache
from pathlib import Path
from typing import Any

import jax
import psutil

_THREADS = "NPROC"
"""Environment variable from which XLA takes the number of its threads when it starts."""
_VECTORS = ("avx512f", "avx2", "avx", "sse4_2", "sve", "asimd", "neon")
"""Names that Linux gives to vector instructions of processors, widest first."""
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


def num_threads() -> int:
    """Number of XLA's threads on the processor: the last bits of large matrix products depend on it.

    With the kernels written by hand, an MLP of 512 units had other bits on 1 thread than on 2 or 8; with XLA's own kernels 2 and 8
    differed, too.
    """
    set_by_user = os.environ.get(_THREADS, "")
    return int(set_by_user) if set_by_user.isdecimal() else max(num_cores(), len(own_devices()))


def set_threads(threads: int, cpu_devices: int) -> None:
    """Give XLA so many threads and the processor so many devices, before JAX starts its backends."""
    os.environ[_THREADS] = str(threads)
    jax.config.update("jax_num_cpu_devices", cpu_devices)


@cache
def read_processor() -> tuple[str, ...]:
    """The lines of Linux's description of the processors; none on other systems."""
    file = Path("/proc/cpuinfo")
    return tuple(file.read_text().splitlines()) if file.is_file() else ()


@cache
def device_kind() -> str:
    """Kind of the devices of this process, on which the last bits depend: the model of the card, or that of the processor.

    A processor is named with the widest vectors that compilers may use there, because virtual machines hide some.
    """
    device = own_devices()[0]
    if device.platform != "cpu":
        return str(device.device_kind)
    fields = (line.partition(":") for line in read_processor())
    about = {name.strip(): value.strip() for name, colon, value in fields if colon}
    flags = set(about.get("flags", about.get("Features", "")).split())
    vectors = next((name for name in _VECTORS if name in flags), "")
    model = about.get("model name") or platform.processor() or platform.machine()
    return f"{model}, {vectors}" if vectors else model


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
