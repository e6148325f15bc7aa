"""Checks of the things that users pass as a model, and the errors for those that are given by mistake."""

import functools
import importlib
import inspect
import sys
import types
from collections.abc import Callable
from typing import Any

from flax import nnx

from jaxinfl.arguments import quote
from jaxinfl.models.module import ModuleFactory

_FOREIGN = {"torch": "PyTorch", "equinox": "Equinox", "haiku": "Haiku", "keras": "Keras", "tensorflow": "TensorFlow"}
"""Names of frameworks whose modules are given by mistake, by top-level package."""


def as_factory(model: object) -> ModuleFactory:
    """Turn `model` into a function of `rngs` alone; a callable whose parameter is called `rngs` may take it by keyword only.

    Raises:
      TypeError: `model` cannot be called with `rngs` alone, or it is a module and not a function that makes modules.
    """
    if isinstance(model, nnx.Module):
        name = type(model).__name__
        raise TypeError(
            f"model is an instance of {name}; jaxinfl builds one module for each model of an ensemble, each from its own "
            f"keys, so it takes what makes them: the class, model={name}, or `lambda rngs: {name}(..., rngs=rngs)`."
        )
    _refuse_other_frameworks(model)
    if not callable(model):
        raise TypeError(f"model is {quote(model)}; it takes a registered name or a callable `rngs -> flax.nnx.Module`.")
    function: Callable[..., Any] = model
    parameters = _parameters(function)
    if parameters is None:  # a builtin without a signature: calling it will tell
        return function
    takes_keyword = "rngs" in parameters.parameters
    try:
        if takes_keyword:
            parameters.bind(rngs=None)
            return lambda rngs: function(rngs=rngs)
        parameters.bind(None)
    except TypeError as error:
        if takes_keyword and _binds(parameters):
            return function
        name = getattr(getattr(model, "func", model), "__name__", "MyNet").replace("<lambda>", "MyNet")
        raise TypeError(
            f"model {name} cannot be called with one argument, `rngs` ({error}); it takes a callable `rngs -> flax.nnx.Module`, for "
            f"example `lambda rngs: {name}(..., rngs=rngs)` with the other arguments filled in."
        ) from None
    return function


def _binds(signature: inspect.Signature) -> bool:
    try:
        signature.bind(None)
    except TypeError:
        return False
    return True


def _parameters(function: Callable[..., Any]) -> inspect.Signature | None:
    """Find the parameters that a callable still takes; None where they are not known.

    Flax's metaclass hides those of a class: `inspect.signature` says (*args, **kwargs) for every NNX class.
    """
    if isinstance(function, functools.partial):
        inner = _parameters(function.func)
        if inner is None:
            return None
        try:
            given = inner.bind_partial(*function.args)
        except TypeError:
            return inner
        left = [each for name, each in inner.parameters.items() if name not in given.arguments]
        return inner.replace(parameters=_fill_in(left, function.keywords))
    try:
        if isinstance(function, type):
            _, *others = inspect.signature(function.__init__).parameters.values()  # type: ignore[misc]
            return inspect.Signature(others)
        return inspect.signature(function)
    except (TypeError, ValueError):
        return None


def _fill_in(parameters: list[inspect.Parameter], given: dict[str, Any]) -> list[inspect.Parameter]:
    """Find the parameters of a partial: those that it fills in may be left out; they and all later ones go by keyword."""
    filled, by_keyword = [], False
    for each in parameters:
        by_keyword |= each.name in given
        if by_keyword and each.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD:
            each = each.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        filled.append(each.replace(default=given[each.name]) if each.name in given else each)
    return sorted(filled, key=lambda each: each.kind)


def _refuse_other_frameworks(model: object) -> None:
    kind = model if isinstance(model, type) else type(model)
    linen = sys.modules.get("flax.linen")
    if linen is not None and issubclass(kind, linen.Module):
        call = f"{kind.__name__}(...)" if isinstance(model, type) else "your_module"
        raise TypeError(
            f"model is the Flax Linen module {kind.__name__}; jaxinfl takes Flax NNX modules. Write the network as a "
            "flax.nnx.Module; one without batch norm and dropout is also converted by Flax: "
            f"`lambda rngs: nnx.bridge.ToNNX({call}, rngs=rngs).lazy_init(jnp.zeros((1, height, width, channels)))`."
        )
    for ancestor in kind.__mro__:
        package = ancestor.__module__.partition(".")[0]
        if package in _FOREIGN and ancestor.__name__ in ("Module", "Model", "Layer"):
            raise TypeError(
                f"model is {kind.__name__}, a module of {_FOREIGN[package]}; jaxinfl trains Flax NNX modules. Write the "
                "network as a flax.nnx.Module and pass its class."
            )


def import_factory(name: str) -> ModuleFactory | None:
    """Import the module class or function of this qualified name, "package.module.Class"; None where there is none.

    Nothing else is taken for a factory: the name may come from a file.
    """
    parts = name.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        module = ".".join(parts[:cut])
        try:
            found: Any = sys.modules.get(module) or importlib.import_module(module)
            for part in parts[cut:]:
                found = getattr(found, part)
        except (ImportError, AttributeError, ValueError):
            continue
        makes_modules = isinstance(found, types.FunctionType) or (
            isinstance(found, type) and issubclass(found, nnx.Module)
        )
        return found if makes_modules else None
    return None


__all__ = ["as_factory", "import_factory"]
