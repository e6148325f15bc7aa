"""Contenders in PyTorch: one model after another, many at once by `torch.func`, and dattri's helper for retraining.

Networks, batches and optimizer are those of `models_per_hour`; the data lie in memory as normalized tensors, and no
evaluation or bookkeeping is counted: what a careful user would reach. Only dattri gets its batches from a data loader
and writes every model to disk, because that is what it does.
"""

import contextlib
import copy
import importlib.util
import io
import itertools
import math
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, Literal

import numpy as np

from benchmarks.networks import CLASSES, LEARNING_RATE, MOMENTUM, RATIO, Network

Kind = Literal["contiguous_format", "channels_last", "torch.func", "dattri"]
"""One model after another in a memory format of PyTorch's; many at once; or dattri."""
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

    def load(self, network: Network, images: np.ndarray, labels: np.ndarray) -> None:
        """Train this network from now on, on normalized images [train, h, w, c]."""
        self._ask((network, images, labels))

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
            raise RuntimeError("a PyTorch worker failed; its traceback is above") from None


def _serve(pipe: Connection, threads: int) -> None:
    """Answer a network by None, a kind by None once it is warm, and seconds by the steps made in each."""
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
            pipe.send(measure(message))


def prepare(network: Network, images: np.ndarray, labels: np.ndarray, kind: Any) -> Callable[[float], float]:
    """New models, warm; what is returned trains them for some seconds and returns the steps made in each."""
    if kind == "dattri":
        return lambda seconds: retrain_with_dattri(network, images, labels, seconds)[0]
    step = make_step(network, images, labels, kind)
    models = network.stacked if kind == "torch.func" else 1
    begun = time.perf_counter()
    for _ in range(WARMUP_STEPS):
        step()
        if time.perf_counter() - begun > WARMUP_SECONDS:
            break

    def measure(seconds: float) -> float:
        _wait()
        steps, begun = 0, time.perf_counter()
        while time.perf_counter() - begun < seconds:
            loss = step()
            steps += models
        _wait()
        elapsed = time.perf_counter() - begun
        _check_finite(float(loss))
        return steps / elapsed

    return measure


def make_step(network: Network, images: np.ndarray, labels: np.ndarray, kind: Any) -> Callable[[], Any]:
    """One training step of a new model (of `network.stacked` models for "torch.func"); it returns their mean loss."""
    import torch

    device = _device()
    pixels = _tensor(network, images).to(device)
    classes = torch.tensor(labels, dtype=torch.int64, device=device)
    if kind == "torch.func":
        return _stacked_step(network, pixels, classes)
    layout = getattr(torch, kind)
    model = make_module(network).to(device)
    if network.strides:
        model, pixels = model.to(memory_format=layout), pixels.to(memory_format=layout)
    optimizer = torch.optim.SGD(model.parameters(), LEARNING_RATE, momentum=MOMENTUM)

    def step() -> Any:
        index = torch.randint(0, len(pixels), (network.batch_size,), device=device)
        optimizer.zero_grad(set_to_none=True)
        loss = torch.nn.functional.cross_entropy(model(pixels[index]), classes[index])
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def _stacked_step(network: Network, pixels: Any, classes: Any) -> Callable[[], Any]:
    import torch
    from torch import func

    models = [make_module(network).to(pixels.device) for _ in range(network.stacked)]
    for model in models:
        # The batch's own statistics only: running ones cannot be updated in place under vmap.
        func.replace_all_batch_norm_modules_(model)
    params, buffers = func.stack_module_state(models)
    skeleton = copy.deepcopy(models[0]).to("meta")
    optimizer = torch.optim.SGD(params.values(), LEARNING_RATE, momentum=MOMENTUM)

    def loss_of(params: Any, buffers: Any, batch: Any, targets: Any) -> Any:
        logits = func.functional_call(skeleton, (params, buffers), (batch,))
        return torch.nn.functional.cross_entropy(logits, targets)

    gradients = func.vmap(func.grad_and_value(loss_of))

    def step() -> Any:
        index = torch.randint(0, len(pixels), (network.stacked, network.batch_size), device=pixels.device)
        detached = {name: param.detach() for name, param in params.items()}
        grads, losses = gradients(detached, buffers, pixels[index], classes[index])
        for name, param in params.items():
            param.grad = grads[name]
        optimizer.step()
        return losses.mean()

    return step


def retrain_with_dattri(
    network: Network, images: np.ndarray, labels: np.ndarray, seconds: float
) -> tuple[float, list[float]]:
    """Steps a second of dattri's `retrain_lds` over whole models, and the loss of every step."""
    import torch
    from dattri.model_util.retrain import retrain_lds
    from torch.utils.data import DataLoader, TensorDataset

    device, losses = _device(), []

    def train(loader: Any, seed: int | None = None) -> Any:
        model = make_module(network).to(device)
        optimizer = torch.optim.SGD(model.parameters(), LEARNING_RATE, momentum=MOMENTUM)
        for _ in range(network.epochs):
            for batch, targets in loader:
                optimizer.zero_grad(set_to_none=True)
                loss = torch.nn.functional.cross_entropy(model(batch.to(device)), targets.to(device))
                loss.backward()
                optimizer.step()
                losses.append(loss.detach())
        return model

    dataset = TensorDataset(_tensor(network, images), torch.tensor(labels, dtype=torch.int64))
    loader = DataLoader(dataset, network.batch_size, shuffle=True)
    # Its bars would run through ours.
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        begun, seed = time.perf_counter(), 0
        while time.perf_counter() - begun < seconds:
            retrain_lds(train, loader, folder, num_subsets=1, subset_ratio=RATIO, seed=seed)
            seed += 1
        _wait()
        elapsed = time.perf_counter() - begun
    # It asks for this whenever there is a seed, and there always is; the other contenders of the process do not.
    torch.backends.cudnn.deterministic = False
    _check_finite(float(losses[-1]))
    return len(losses) / elapsed, [float(loss) for loss in losses]


def make_module(network: Network) -> Any:
    """The network in PyTorch, with its own initial weights."""
    from torch import nn

    layers: list[Any] = []
    if network.strides:
        inputs = (network.image_shape[-1], *network.widths[:-1])
        for a, b, stride in zip(inputs, network.widths, network.strides, strict=True):
            layers += [nn.Conv2d(a, b, 3, stride, 1, bias=not network.batch_norm)]
            layers += [nn.BatchNorm2d(b), nn.ReLU()] if network.batch_norm else [nn.ReLU()]
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    else:
        sizes = (math.prod(network.image_shape), *network.widths)
        for a, b in itertools.pairwise(sizes):
            layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(network.widths[-1], CLASSES))


def _tensor(network: Network, images: np.ndarray) -> Any:
    """Images as PyTorch has them: channels first, or flat for a dense network."""
    import torch

    if not network.strides:
        return torch.tensor(images.reshape(len(images), -1))
    return torch.tensor(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _wait() -> None:
    """A GPU works behind the program's back."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _check_finite(loss: float) -> None:
    if not math.isfinite(loss):
        raise FloatingPointError(f"the model has diverged: loss {loss}")
