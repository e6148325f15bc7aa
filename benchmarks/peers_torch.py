"""Contenders in PyTorch: one model after another, many at once by `torch.func`, and dattri's helper for retraining.

Networks, batches and optimizer are those of `models_per_hour`; the data lie in memory as tensors that are ready, and no
evaluation or bookkeeping is counted: what a careful user would reach. Only dattri gets its batches from a data loader
and writes every model to disk, because that is what it does.
"""

import contextlib
import copy
import io
import itertools
import math
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.networks import MOMENTUM, RATIO, Network
from benchmarks.workers import check_finite


def make_step(network: Network, inputs: np.ndarray, labels: np.ndarray, kind: Any) -> Callable[[], Any]:
    """One training step of a new model (of `network.stacked` models for "torch.func"); it returns their mean loss."""
    import torch

    device = _device()
    rows = _tensor(network, inputs).to(device)
    classes = torch.tensor(labels, dtype=torch.int64, device=device)
    if kind == "torch.func":
        return _stacked_step(network, rows, classes)
    layout = getattr(torch, kind)
    model = make_module(network).to(device)
    if network.strides:
        model, rows = model.to(memory_format=layout), rows.to(memory_format=layout)
    optimizer = torch.optim.SGD(model.parameters(), network.learning_rate, momentum=MOMENTUM)

    def step() -> Any:
        index = torch.randint(0, len(rows), (network.batch_size,), device=device)
        optimizer.zero_grad(set_to_none=True)
        loss = torch.nn.functional.cross_entropy(model(rows[index]), classes[index])
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def _stacked_step(network: Network, rows: Any, classes: Any) -> Callable[[], Any]:
    import torch
    from torch import func

    models = [make_module(network).to(rows.device) for _ in range(network.stacked)]
    for model in models:
        # The batch's own statistics only: running ones cannot be updated in place under vmap.
        func.replace_all_batch_norm_modules_(model)
    params, buffers = func.stack_module_state(models)
    skeleton = copy.deepcopy(models[0]).to("meta")
    optimizer = torch.optim.SGD(params.values(), network.learning_rate, momentum=MOMENTUM)

    def loss_of(params: Any, buffers: Any, batch: Any, targets: Any) -> Any:
        logits = func.functional_call(skeleton, (params, buffers), (batch,))
        return torch.nn.functional.cross_entropy(logits, targets)

    gradients = func.vmap(func.grad_and_value(loss_of))

    def step() -> Any:
        index = torch.randint(0, len(rows), (network.stacked, network.batch_size), device=rows.device)
        detached = {name: param.detach() for name, param in params.items()}
        grads, losses = gradients(detached, buffers, rows[index], classes[index])
        for name, param in params.items():
            param.grad = grads[name]
        optimizer.step()
        return losses.mean()

    return step


def retrain_with_dattri(
    network: Network, inputs: np.ndarray, labels: np.ndarray, seconds: float
) -> tuple[float, list[float]]:
    """Steps a second of dattri's `retrain_lds` over whole models, and the loss of every step."""
    import torch
    from dattri.model_util.retrain import retrain_lds
    from torch.utils.data import DataLoader, TensorDataset

    device, losses = _device(), []

    def train(loader: Any, seed: int | None = None) -> Any:
        model = make_module(network).to(device)
        optimizer = torch.optim.SGD(model.parameters(), network.learning_rate, momentum=MOMENTUM)
        for _ in range(network.epochs):
            for batch, targets in loader:
                optimizer.zero_grad(set_to_none=True)
                loss = torch.nn.functional.cross_entropy(model(batch.to(device)), targets.to(device))
                loss.backward()
                optimizer.step()
                losses.append(loss.detach())
        return model

    dataset = TensorDataset(_tensor(network, inputs), torch.tensor(labels, dtype=torch.int64))
    loader = DataLoader(dataset, network.batch_size, shuffle=True)
    # Its bars would run through ours.
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        begun, seed = time.perf_counter(), 0
        while time.perf_counter() - begun < seconds:
            retrain_lds(train, loader, folder, num_subsets=1, subset_ratio=RATIO, seed=seed)
            seed += 1
        wait()
        elapsed = time.perf_counter() - begun
    # It asks for this whenever there is a seed, and there always is; the other contenders of the process do not.
    torch.backends.cudnn.deterministic = False
    check_finite(float(losses[-1]))
    return len(losses) / elapsed, [float(loss) for loss in losses]


def make_module(network: Network) -> Any:
    """The network in PyTorch, with its own initial weights."""
    from torch import nn

    if network.heads:
        from benchmarks.peers_torch_transformer import Transformer

        return Transformer(network)
    layers: list[Any] = []
    if network.dense:
        for a, b in itertools.pairwise((math.prod(network.input_shape), *network.widths)):
            layers += [nn.Linear(a, b), nn.ReLU()]
    else:
        inputs = (network.input_shape[-1], *network.widths[:-1])
        for a, b, stride in zip(inputs, network.widths, network.strides, strict=True):
            layers += [nn.Conv2d(a, b, 3, stride, 1, bias=not network.batch_norm)]
            layers += [nn.BatchNorm2d(b), nn.ReLU()] if network.batch_norm else [nn.ReLU()]
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(network.widths[-1], network.classes))


def _tensor(network: Network, inputs: np.ndarray) -> Any:
    """Inputs as PyTorch has them: images channels first, or flat for a perceptron."""
    import torch

    if network.strides:
        return torch.tensor(np.ascontiguousarray(inputs.transpose(0, 3, 1, 2)))
    return torch.tensor(inputs.astype(np.int64) if network.tokens else inputs.reshape(len(inputs), -1))


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def wait() -> None:
    """Wait for a GPU, which works behind the program's back."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
