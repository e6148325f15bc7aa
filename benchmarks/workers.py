"""Processes in which the contenders that are not written in JAX train: PyTorch, dattri and scikit-learn."""

import importlib.util
import math
import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, Literal

import numpy as np

from benchmarks.networks import Network

Kind = Literal["contiguous_format", "channels_last", "torch.func", "dattri", "scikit-learn"]
"""PyTorch, one model after another in a memory format or many at once; dattri; or scikit-learn, one model after another."""
WARMUP_STEPS = 5
WARMUP_SECONDS = 2.0
"""Seconds after which a slow contender is warm, too."""
PATIENCE = 5.0
"""Seconds for a worker to end by itself; after an error another one may still be training."""


def why_missing(package: Literal["torch", "dattri"]) -> str | None:
    """The sentence that says that a package is missing; None if it is installed."""
    if importlib.util.find_spec(package) is not None:
        return None
    names = {"torch": "PyTorch", "dattri": "dattri (retraining in PyTorch)"}
    return f"{names[package]} is not installed: left out. To compare, pip install {package}."


class Workers:
    """Processes that train when told to, all at the same time, and say how many steps a second they made together.

    They are started once, since PyTorch takes seconds to import, and get a new model for every measurement.
    """

    def __init__(self, *, processes: int, threads: int):
        context = multiprocessing.get_context("spawn")
        self.setting = f"{processes} x {threads} threads"
        self._pipes: list[Connection] = []
        self._workers: list[Any] = []
        for _ in range(processes):
            ours, theirs = context.Pipe()
            worker = context.Process(target=_serve, args=(theirs, threads), daemon=True)
            worker.start()
            # Else a worker that dies would be waited for.
            theirs.close()
            self._pipes.append(ours)
            self._workers.append(worker)

    def load(self, network: Network, inputs: np.ndarray, labels: np.ndarray) -> None:
        """Train this network from now on, on inputs [train, ...] that are ready."""
        self._ask((network, inputs, labels))

    def steps_per_second(self, kind: Kind, seconds: float) -> float:
        """Train in every process for so long, warm-up apart.

        Raises:
          RuntimeError: a worker failed; it has printed why.
        """
        self._ask(kind)
        return sum(self._ask(seconds))

    def close(self) -> None:
        """End the processes."""
        for pipe in self._pipes:
            pipe.close()
        for worker in self._workers:
            worker.join(PATIENCE)
            worker.terminate()
            worker.join()

    def _ask(self, message: object) -> list[float]:
        try:
            for pipe in self._pipes:
                pipe.send(message)
            return [pipe.recv() for pipe in self._pipes]
        except (EOFError, OSError):
            raise RuntimeError("a worker of the benchmark failed; its traceback is above") from None


def _serve(pipe: Connection, threads: int) -> None:
    """Answer a network by None, a kind by None once it is warm, and seconds by the steps made in each."""
    from threadpoolctl import threadpool_limits

    if why_missing("torch") is None:
        import torch

        torch.set_num_threads(threads)
        if torch.cuda.is_available():
            # As JAX does there unless told otherwise: TF32. PyTorch's convolutions already do.
            torch.set_float32_matmul_precision("high")
    task: tuple[Network, np.ndarray, np.ndarray] | None = None
    measure: Callable[[float], float] | None = None
    while True:
        try:
            message = pipe.recv()
        except EOFError:
            return
        if isinstance(message, tuple):
            task = message
            pipe.send(None)
        elif isinstance(message, str):
            assert task is not None
            measure = prepare(*task, message)
            pipe.send(None)
        else:
            assert measure is not None
            # NumPy's products in scikit-learn have threads of their own.
            with threadpool_limits(threads, user_api="blas"):
                pipe.send(measure(message))


def prepare(network: Network, inputs: np.ndarray, labels: np.ndarray, kind: Any) -> Callable[[float], float]:
    """New models, warm; what is returned trains them for some seconds and returns the steps made in each."""
    if kind == "dattri":
        from benchmarks.peers_torch import retrain_with_dattri

        return lambda seconds: retrain_with_dattri(network, inputs, labels, seconds)[0]
    if kind == "scikit-learn":
        from benchmarks.peers_sklearn import fit_models

        fit_models(network, inputs, labels, 0.0)
        return lambda seconds: fit_models(network, inputs, labels, seconds)[0]
    return _prepare_torch(network, inputs, labels, kind)


def _prepare_torch(network: Network, inputs: np.ndarray, labels: np.ndarray, kind: Any) -> Callable[[float], float]:
    from benchmarks.peers_torch import make_step, wait

    step = make_step(network, inputs, labels, kind)
    models = network.stacked if kind == "torch.func" else 1
    begun = time.perf_counter()
    for _ in range(WARMUP_STEPS):
        step()
        if time.perf_counter() - begun > WARMUP_SECONDS:
            break

    def measure(seconds: float) -> float:
        wait()
        steps, begun = 0, time.perf_counter()
        while time.perf_counter() - begun < seconds:
            loss = step()
            steps += models
        wait()
        elapsed = time.perf_counter() - begun
        check_finite(float(loss))
        return steps / elapsed

    return measure


def check_finite(loss: float) -> None:
    """Raise `FloatingPointError` where a model has diverged, whose speed means nothing."""
    if not math.isfinite(loss):
        raise FloatingPointError(f"the model has diverged: loss {loss}")
