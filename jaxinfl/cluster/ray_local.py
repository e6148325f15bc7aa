"""Ray on this machine, started by a process without JAX, and the connection to a pool that is there already."""

import importlib
import importlib.util
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from jaxinfl.cluster.errors import ClusterError, need_extra

PATIENCE = 10.0
"""Seconds after which an address counts as one that does not answer."""
_MODE, _TOKEN = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN"
_SETTINGS = 4
"""Type of the frame with which a server of HTTP/2, such as one of gRPC, begins (RFC 9113, section 3.4)."""
_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, _SETTINGS, 0, 0, 0, 0, 0])
"""The beginning of a connection by HTTP/2, with a frame without settings."""
_START = """
import sys, ray
ray.init(num_cpus=int(sys.argv[1]), include_dashboard=False, log_to_driver=False)
print("address", ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
ray.shutdown()
"""


def is_connected() -> bool:
    """Whether the user has connected this process to a pool."""
    imported = sys.modules.get("ray")
    return imported is not None and bool(imported.is_initialized())


@contextmanager
def connected(address: str | None, cores: int) -> Iterator[Any]:
    """Connect to the pool at an address, or to one that is started on this machine; gives the module `ray`.

    A connection that the user made stays as it is.

    Raises:
      ClusterError: Ray is not installed, or the address does not answer within `PATIENCE` seconds.
    """
    if is_connected():
        if address is not None:
            raise ClusterError(
                f"cluster address is {address}, but this process is connected to a pool of Ray already. Leave it out to use that one, or "
                "call ray.shutdown() first."
            )
        yield sys.modules["ray"]
        return
    with _start_here(cores) if address is None else _as_it_is(address) as found:
        ray = need_extra("ray", "ray", "ray")
        _connect(ray, found)
        try:
            yield ray
        finally:
            ray.shutdown()


@contextmanager
def _password() -> Iterator[None]:
    """Choose a password for a pool on this machine, which nobody else on it may use, unless the user set how Ray is to be protected."""
    if _MODE in os.environ:
        yield
        return
    os.environ |= {_MODE: "token", _TOKEN: _choose_password()}
    _read_environment()
    try:
        yield
    finally:
        del os.environ[_MODE], os.environ[_TOKEN]
        _read_environment()


@cache
def _choose_password() -> str:
    # One for all pools of this process, because Ray remembers the first.
    return secrets.token_hex(32)


def _read_environment() -> None:
    """Have Ray read its variables again: it reads them when it is imported."""
    if "ray" in sys.modules:
        importlib.import_module("ray._raylet").Config.initialize("")


@contextmanager
def _as_it_is(address: str) -> Iterator[str]:
    if address != "auto":
        check_answers(address)
    yield address


def check_answers(address: str) -> None:
    """Raise unless a server of Ray's protocol, which is gRPC, answers at an address: Ray itself waits a minute and more for one.

    Raises:
      ClusterError: the address has no port, or nothing answers within `PATIENCE` seconds.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        raise ClusterError(
            f"cluster address is {address!r}; it takes host:port of the head node, such as 10.0.0.1:6379, or auto."
        )
    try:
        with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection:
            if os.environ.get("RAY_USE_TLS") == "1":
                return  # its greeting is encrypted
            connection.settimeout(PATIENCE)
            connection.sendall(_GREETING)
            answer = connection.recv(9)
        if len(answer) < 4 or answer[3] != _SETTINGS:
            raise ConnectionError("what listens there is no Ray")
    except (OSError, OverflowError) as error:
        raise ClusterError(
            f"Ray does not answer at {address} ({error}). Start Ray there by `ray start --head --port={port}`, or leave the address out to "
            "start a pool on this machine."
        ) from error


@contextmanager
def _start_here(cores: int) -> Iterator[str]:
    """Start Ray on this machine, and end it afterwards.

    Ray forks this process to start its own. JAX has threads by then, which a fork may leave locked, and warns of that
    (https://github.com/ray-project/ray/issues/44087). So a process without JAX starts it, and ends it when we are gone.
    """
    if importlib.util.find_spec("ray") is None:
        need_extra("ray", "ray", "ray")  # which says how to install it
    with _password(), _pool_process(cores) as address:
        yield address


@contextmanager
def _pool_process(cores: int) -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", _START, str(cores)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Another pool's address in the environment is not asked for.
        env={name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
        | {"RAY_USAGE_STATS_ENABLED": "0"},
        start_new_session=True,  # a Ctrl-C that asks this process to stop is not meant for the pool
    )
    assert process.stdin and process.stdout and process.stderr
    said: list[str] = []
    # Whatever it says besides must be read, or it would wait for us.
    listener = threading.Thread(target=lambda: said.extend(process.stderr or ()), daemon=True)
    listener.start()
    try:
        address = next((line.split()[1] for line in process.stdout if line.startswith("address ")), None)
        if address is None:
            process.wait()
            listener.join(1.0)
            raise ClusterError("Ray could not be started on this machine. It says:\n" + "".join(said[-10:]))
        yield address
    finally:
        process.stdin.close()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        listener.join(PATIENCE)
        process.stdout.close()
        process.stderr.close()


def _connect(ray: Any, address: str) -> None:
    """Connect to a pool; Ray sets its own handler of SIGTERM, and ours is put back."""
    ours = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address, log_to_driver=False, logging_level="error")
    except Exception as error:  # Ray raises several
        raise ClusterError(f"the pool of Ray at {address} does not take this process: {error}") from error
    finally:
        if threading.current_thread() is threading.main_thread() and ours is not None:
            signal.signal(signal.SIGTERM, ours)


__all__ = ["PATIENCE", "check_answers", "connected", "is_connected"]
