"""Conversion of a PyTorch module's weights to a model's variables, and back, layer by layer in the order of definition.

Both sides define the same layers in the same order. Layers are paired by nothing but this order, their kinds and shapes, and
a wrong pair would show in the numbers. Nothing of PyTorch is imported here: its arrays come as tensors.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from flax import nnx

KINDS = {nnx.Conv: "Conv2d", nnx.BatchNorm: "BatchNorm2d", nnx.Linear: "Linear"}
Path = tuple[str | int, ...]


def build_in_order(factory: Callable[[], nnx.Module]) -> nnx.Module:
    """Build the module without computing a number, its attributes in the order of definition, not sorted as by `nnx.eval_shape`."""
    built: list[nnx.Module] = []
    jax.eval_shape(lambda: built.append(factory()))
    return built[0]


def our_layers(module: Any, path: Path = ()) -> Iterator[tuple[Path, nnx.Module]]:
    """Yield the convolutions, batch norms and linear layers of a Flax module, in the order of definition."""
    if isinstance(module, tuple(KINDS)):
        yield path, module
    elif isinstance(module, nnx.List):
        for index, part in enumerate(module):
            yield from our_layers(part, (*path, index))
    elif isinstance(module, nnx.Module):
        for name, part in vars(module).items():
            yield from our_layers(part, (*path, name))


def pairs(module: nnx.Module, torch_module: Any) -> list[tuple[Path, nnx.Module, Any]]:
    """List each layer's path and module with PyTorch's module.

    Raises:
      ValueError: the two do not have the same kinds of layers in the same order.
    """
    ours = list(our_layers(module))
    theirs = [part for part in torch_module.modules() if type(part).__name__ in KINDS.values()]
    names = [next(name for kind, name in KINDS.items() if isinstance(layer, kind)) for _, layer in ours]
    if names != [type(part).__name__ for part in theirs]:
        raise ValueError(f"The layers differ: {names} here, {[type(part).__name__ for part in theirs]} in PyTorch.")
    return [(path, layer, part) for (path, layer), part in zip(ours, theirs, strict=True)]


def params_of(module: nnx.Module, torch_module: Any, read: Callable[[Any], Any]) -> dict[str | int, Any]:
    """Read parameters in the structure of a model's `Variables.params`; a convolution's [out, in, h, w] becomes [h, w, in, out].

    `read` maps each of PyTorch's parameters to the array to take, which is the parameter itself or its gradient.
    """
    tree: dict[str | int, Any] = {}
    for path, layer, part in pairs(module, torch_module):
        weight = np.asarray(read(part.weight))
        if isinstance(layer, nnx.BatchNorm):
            values = {"scale": weight, "bias": np.asarray(read(part.bias))}
        else:
            values = {"kernel": weight.transpose((2, 3, 1, 0) if weight.ndim == 4 else (1, 0))}
            if part.bias is not None:
                values["bias"] = np.asarray(read(part.bias))
        _insert(tree, path, values)
    return tree


def stats_of(module: nnx.Module, torch_module: Any) -> dict[str | int, Any]:
    """Read running means and variances in the structure of a model's `Variables.stats`."""
    tree: dict[str | int, Any] = {}
    for path, layer, part in pairs(module, torch_module):
        if isinstance(layer, nnx.BatchNorm):
            values = {"mean": part.running_mean.detach().numpy(), "var": part.running_var.detach().numpy()}
            if hasattr(layer, "batches"):
                values["batches"] = np.asarray(part.num_batches_tracked)
            _insert(tree, path, values)
    return tree


def _insert(tree: dict[str | int, Any], path: Path, values: dict[str, Any]) -> None:
    for step in path:
        tree = tree.setdefault(step, {})
    tree.update(values)
