"""What all processes that train one run have in common besides the job: decided once, before the first model.

The last bits of a model depend on the kind of device, the number of XLA's threads on a processor, the width, the kernels and the
versions of JAX. The process that is ready first decides for a run. A run directory records the decision with its description. Parts
of a run have a description each, so that until all of them are there the decision lies beside them in a file of its own.
"""

import contextlib
import os
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jaxinfl import provenance
from jaxinfl.devices import device_kind, num_threads, own_devices
from jaxinfl.models.layers import Kernels
from jaxinfl.store import RunDirectoryError, writing
from jaxinfl.store.failures import write_failures
from jaxinfl.store.manifest import read_manifest, write_manifest
from jaxinfl.store.parts import open_rows, part_path, parts_in
from jaxinfl.store.run import is_run
from jaxinfl.training.programs import Execution

FILE = "agreement.json"
"""Name of the file, beside the parts of a run."""
VERSIONS = ("jaxinfl", "jax", "jaxlib")
"""Packages whose versions decide the last bits of a model."""


_MIXING = (
    "pass mixed_devices=True, by which the run records the device of each model and no longer promises the same bits"
)


class Disagreement(RunDirectoryError):
    """This process cannot train the models of a run so that they have the bits that other processes give them."""


@dataclass(frozen=True)
class Devices:
    """The devices of a process, as far as the last bits of a model depend on them."""

    platform: str
    """Name of JAX's platform, such as "cpu" or "gpu"."""
    kind: str | None
    """Kind of the devices, see `jaxinfl.devices.device_kind`; None in runs that were made before it was recorded."""
    threads: int | None
    """Number of XLA's threads on a processor; None where they do not matter, or were not recorded."""
    available: int
    """Number of devices of the process. It changes no bit where the number of threads is the same."""

    @classmethod
    def here(cls) -> "Devices":
        """Look at this process."""
        own = own_devices()
        threads = num_threads() if own[0].platform == "cpu" else None
        return cls(own[0].platform, device_kind(), threads, len(own))

    @classmethod
    def of_run(cls, execution: Mapping[str, Any]) -> "Devices":
        """Read them from the execution that a run records."""
        available = execution.get("available_devices", execution["num_devices"])
        return cls(execution["platform"], execution.get("device_kind"), execution.get("threads"), available)

    def describe(self) -> dict[str, Any]:
        """What a run's execution records of them, as JSON values."""
        return {"device_kind": self.kind, "threads": self.threads, "available_devices": self.available}

    def check_kind(self, here: "Devices", path: Path | None) -> None:
        """Raise unless the devices of a process are of the kind of these.

        Raises:
          Disagreement: they are not; the message says what to do.
        """
        kind = here.kind if self.kind is None else self.kind
        if (self.platform, kind) == (here.platform, here.kind):
            return
        mixing = (
            f"or {_MIXING}"
            if self.kind
            else "or begin another run_dir: this one is too old to record the device of each model"
        )
        raise Disagreement(
            f"{path or 'the run'} was started on {self.kind or 'devices'} ({self.platform}), and this process has {here.kind} ({here.platform}), "
            f"which changes the last bits of a model. Go on where it was started, {mixing}."
        )

    def other_threads(self, here: "Devices", path: Path | None) -> "Disagreement | None":
        """Return the error that says that a process has another number of XLA's threads.

        None where it has as many, and on another platform, which `check_kind` refuses.
        """
        if self.platform != here.platform or self.threads == here.threads:
            return None
        if self.threads is None and self.available == here.available:
            return None
        if self.threads is None:
            what, was, now = "JAX_NUM_CPU_DEVICES", f"on {self.available} devices", f"{here.available}"
            setting = self.available
        else:
            what, was, now = "NPROC", f"with {self.threads} threads of XLA", f"{here.threads}"
            setting = self.threads
        return Disagreement(
            f"{path or 'the run'} was started {was}, and this process has {now}, which may change the last bits of a model. Set the environment variable "
            f"{what}={setting} before Python starts, or {_MIXING}."
        )


@dataclass(frozen=True)
class Agreement:
    """Everything that decides the last bits of the models of a job, for all processes that train some of them."""

    devices: Devices
    """The devices of the process that decided; others must be of the same kind, in any number."""
    width: int
    """Number of models that a device trains at once."""
    kernels: Kernels
    """Kernels that compute the layers."""
    num_devices: int
    """Number of devices that the process which decided trains on. It changes no bit."""
    versions: Mapping[str, str]
    """Versions of jaxinfl, jax and jaxlib."""

    @classmethod
    def on(cls, execution: Execution) -> "Agreement":
        """Agree on what this process does."""
        return cls(Devices.here(), execution.width, execution.kernels, execution.num_devices, own_versions())

    @classmethod
    def of_run(cls, attributes: Mapping[str, Any]) -> "Agreement":
        """Read the agreement of a run from its description."""
        execution = attributes["execution"]
        versions = {name: attributes["versions"][name] for name in VERSIONS}
        devices = Devices.of_run(execution)
        return cls(devices, execution["width"], execution["kernels"], execution["num_devices"], versions)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Agreement":
        """Make it from the JSON values of `dataclasses.asdict`."""
        return cls(**{**values, "devices": Devices(**values["devices"])})

    def gives_bits_of(self, other: "Agreement") -> bool:
        """Whether a model gets the same last bits by either."""
        return self._deciding == other._deciding

    @property
    def _deciding(self) -> tuple[Any, ...]:
        devices = self.devices
        return devices.platform, devices.kind, devices.threads, self.width, self.kernels, dict(self.versions)

    def differences(self, path: Path | None, *, mixed_devices: bool) -> list[Disagreement]:
        """Why this process may give a model other last bits, besides another kind of device: its versions, its number of threads.

        With `mixed_devices` the number of threads may differ.
        """
        threads = None if mixed_devices else self.devices.other_threads(Devices.here(), path)
        return [each for each in (self._other_version(path), threads) if each is not None]

    def _other_version(self, path: Path | None) -> Disagreement | None:
        here = own_versions()
        for name, version in self.versions.items():
            if here[name] != version:
                return Disagreement(
                    f"{path or 'the run'} was started with {name} {version}, and this process has {here[name]}, which may change the last bits of "
                    f"a model. Install {name}=={version} here, or begin another run_dir."
                )
        return None


def own_versions() -> dict[str, str]:
    """Versions of the packages that decide the last bits of a model, in this process."""
    found = provenance.versions()
    return {name: found[name] for name in VERSIONS}


def find_agreement(run_dir: Path) -> Agreement | None:
    """Find what was agreed on for a run, whole or in parts; None where nothing was yet."""
    if is_run(run_dir) or parts_in(run_dir):
        return Agreement.of_run(open_rows(run_dir).attributes)
    return Agreement.from_dict(read_manifest(run_dir / FILE)) if (run_dir / FILE).exists() else None


def agree(run_dir: Path, proposal: Agreement) -> Agreement:
    """Propose an agreement for the parts of a run, and return the one that was proposed first.

    Raises:
      WriteFailed: the file system does not take it.
    """
    standing = find_agreement(run_dir)
    if standing is not None:
        return standing
    draft = run_dir / f"{FILE}.{secrets.token_hex(6)}.partial"
    with write_failures(run_dir):
        run_dir.mkdir(parents=True, exist_ok=True)
        write_manifest(draft, asdict(proposal))
        try:
            # A link is made once, also by processes on several machines: the file has all of its content, or is not there.
            os.link(draft, run_dir / FILE)
        except FileExistsError:
            pass
        except OSError:  # a file system without links; there one process at a time looks and writes
            with writing(run_dir):
                if not (run_dir / FILE).exists():
                    os.replace(draft, run_dir / FILE)
        finally:
            draft.unlink(missing_ok=True)
    return Agreement.from_dict(read_manifest(run_dir / FILE))


def tidy_agreement(run_dir: Path, num_parts: int) -> None:
    """Remove the file of the agreement when every part of a run records it."""
    if all(is_run(part_path(run_dir, (number, num_parts))) for number in range(1, num_parts + 1)):
        with contextlib.suppress(OSError):
            (run_dir / FILE).unlink(missing_ok=True)


__all__ = ["FILE", "Agreement", "Devices", "Disagreement", "agree", "find_agreement", "own_versions", "tidy_agreement"]
