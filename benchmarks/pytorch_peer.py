"""The opponent: PyTorch, one model after another, in as many processes and threads as it likes best.

The network, batch and optimizer are those of `models_per_hour`; the data lie in memory as tensors, and no evaluation,
data loader or bookkeeping is counted: what a careful user would reach.
"""

import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

CHANNELS = ((1, 16, 1), (16, 32, 2), (32, 64, 2))
"""Inputs, outputs and stride of each 3x3 convolution."""


class PyTorchPeer:
    """Worker processes that train until told to stop and say how many steps a second they made, all together."""

    def __init__(self, *, processes: int, threads: int, memory_format: str, batch_size: int):
        context = multiprocessing.get_context("spawn")
        self._pipes: list[Connection] = []
        self._workers: list[Any] = []
        for _ in range(processes):
            ours, theirs = context.Pipe()
            arguments = (theirs, threads, memory_format, batch_size)
            worker = context.Process(target=_serve, args=arguments, daemon=True)
            worker.start()
            self._pipes.append(ours)
            self._workers.append(worker)

    def steps_per_second(self, seconds: float) -> float:
        """Train in every process for so long."""
        for pipe in self._pipes:
            pipe.send(seconds)
        return sum(pipe.recv() for pipe in self._pipes)

    def close(self) -> None:
        """End the processes."""
        for worker in self._workers:
            worker.terminate()
            worker.join()


def _serve(pipe: Connection, threads: int, memory_format: str, batch_size: int) -> None:
    import torch

    def wait() -> None:
        """A GPU works behind the program's back."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    step = _make_step(threads, memory_format, batch_size)
    for _ in range(10):
        step()
    while True:
        seconds = pipe.recv()
        wait()
        steps, begun = 0, time.perf_counter()
        while time.perf_counter() - begun < seconds:
            step()
            steps += 1
        wait()
        pipe.send(steps / (time.perf_counter() - begun))


def _make_step(threads: int, memory_format: str, batch_size: int) -> Callable[[], None]:
    import torch
    from sklearn.datasets import load_digits
    from torch import nn
    from torch.nn import functional

    torch.set_num_threads(threads)
    layout = getattr(torch, memory_format)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    pixels, classes = load_digits(return_X_y=True)
    images = torch.tensor(pixels.reshape(-1, 1, 8, 8)[:1005] / 16 - 0.5, dtype=torch.float32, device=device)
    labels = torch.tensor(classes[:1005], device=device)
    layers: list[Any] = []
    for inputs, outputs, stride in CHANNELS:
        layers += [nn.Conv2d(inputs, outputs, 3, stride, 1), nn.ReLU()]
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS[-1][1], 10)]
    model = nn.Sequential(*layers).to(device, memory_format=layout)
    images = images.to(memory_format=layout)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)

    def step() -> None:
        index = torch.randint(0, len(images), (batch_size,), device=device)
        optimizer.zero_grad(set_to_none=True)
        functional.cross_entropy(model(images[index]), labels[index]).backward()
        optimizer.step()

    return step
