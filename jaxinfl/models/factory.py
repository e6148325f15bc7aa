"""Checks of the things that users pass as a model, and the errors for those that are given by mistake."""

import functools
import importlib
import inspect
import sys
import types
from collections.abc import Callable
from typing import Any, Literal

from flax import nnx

from jaxinfl.arguments import quote

_FOREIGN = {"torch": "PyTorch", "haiku": "Haiku", "keras": "Keras", "tensorflow": "TensorFlow"}
"""Names of frameworks whose modules are given by mistake, by top-level package."""
_TAKEN = (
    "a registered name, a callable `rngs -> flax.nnx.Module`, a Flax Linen module, a callable `key -> equinox.Module`, or a pair of "
    "functions (init, apply)"
)


def is_linen(model: object) -> bool:
    """Whether `model` is a Flax Linen module.

    Raises:
      TypeError: it is the class of one.
    """
    linen = sys.modules.get("flax.linen")
    if linen is None:
        return False
    if isinstance(model, type) and issubclass(model, linen.Module):
        raise TypeError(
            f"model is the class {model.__name__} of Flax Linen; it takes a Linen module itself, model={model.__name__}(...)."
        )
    return isinstance(model, linen.Module)


def builds_equinox(model: object) -> bool:
    """Whether `model` is what makes an Equinox module: its class, or a callable with a parameter called `key`.

    Raises:
      TypeError: it is an Equinox module that was made before.
    """
    equinox = sys.modules.get("equinox")
    if equinox is not None and isinstance(model, equinox.Module):
        name = type(model).__name__
        raise TypeError(
            f"model is an instance of {name}; jaxinfl builds one module for each model of an ensemble, each from its own "
            f"key, so it takes what makes them: `lambda key: {name}(..., key=key)`."
        )
    if equinox is not None and isinstance(model, type) and issubclass(model, equinox.Module):
        return True
    parameters = _parameters(model) if callable(model) else None
    return parameters is not None and "key" in parameters.parameters and "rngs" not in parameters.parameters


def as_factory(model: object, argument: Literal["rngs", "key"] = "rngs") -> Callable[[Any], Any]:
    """Turn `model` into a function of `argument` alone; a callable with a parameter of this name may take it by keyword only.

    Raises:
      TypeError: `model` cannot be called with `argument` alone, or it is a module and not a function that makes modules.
    """
    if isinstance(model, nnx.Module):
        name = type(model).__name__
        raise TypeError(
            f"model is an instance of {name}; jaxinfl builds one module for each model of an ensemble, each from its own "
            f"keys, so it takes what makes them: the class, model={name}, or `lambda rngs: {name}(..., rngs=rngs)`."
        )
    _refuse_other_frameworks(model)
    if not callable(model):
        raise TypeError(f"model is {quote(model)}; it takes {_TAKEN}.")
    function: Callable[..., Any] = model
    parameters = _parameters(function)
    if parameters is None:  # a builtin without a signature: calling it will tell
        return function
    takes_keyword = argument in parameters.parameters
    try:
        if takes_keyword:
            parameters.bind(**{argument: None})
            return lambda given: function(**{argument: given})
        parameters.bind(None)
    except TypeError as error:
        if takes_keyword and _binds(parameters):
            return function
        name = getattr(getattr(model, "func", model), "__name__", "MyNet").replace("<lambda>", "MyNet")
        kind = "flax.nnx.Module" if argument == "rngs" else "equinox.Module"
        raise TypeError(
            f"model {name} cannot be called with one argument, `{argument}` ({error}); it takes a callable "
            f"`{argument} -> {kind}`, for example `lambda {argument}: {name}(..., {argument}={argument})` with the other arguments "
            "filled in."
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
    for ancestor in kind.__mro__:
        package = ancestor.__module__.partition(".")[0]
        if package in _FOREIGN and ancestor.__name__ in ("Module", "Model", "Layer"):
            raise TypeError(
                f"model is {kind.__name__}, a module of {_FOREIGN[package]}; jaxinfl trains Flax NNX modules. Write the "
                "network as a flax.nnx.Module and pass its class."
            )


def import_factory(name: str) -> Any:
    """Import the model of this qualified name, "package.module.Class" or "(package.init, package.apply)"; None if there is none.

    Of a class of Linen, the module with the default values of all fields is taken. Nothing but classes of modules and functions
    is taken for a model: the name may come from a file.
    """
    if name.startswith("(") and name.endswith(")"):
        pair = tuple(map(_import, name[1:-1].split(", ")))
        return pair if all(isinstance(each, types.FunctionType) for each in pair) else None
    found = _import(name)
    linen, equinox = sys.modules.get("flax.linen"), sys.modules.get("equinox")
    if isinstance(found, type):
        if linen is not None and issubclass(found, linen.Module):
            try:
                return found()
            except TypeError:  # a field without a default
                return None
        return found if issubclass(found, (nnx.Module, *([equinox.Module] if equinox else []))) else None
    return found if isinstance(found, types.FunctionType) else None


def _import(name: str) -> Any:
    parts = name.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        module = ".".join(parts[:cut])
        try:
            found: Any = sys.modules.get(module) or importlib.import_module(module)
            for part in parts[cut:]:
                found = getattr(found, part)
        except (ImportError, AttributeError, ValueError):
            continue
        return found
    return None


__all__ = ["as_factory", "builds_equinox", "import_factory", "is_linen"]
