"""A Flax NNX module is taken apart here: into its static side in training and in evaluation, and its variables.

The module is used as it is, with two exceptions. Its plain Flax layers are replaced by those of `models/layers/`, which are
faster and leave padding out of batch norm. And flags for training are set wherever there are any (`TRAINING_FLAGS`).
"""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from flax.errors import TraceContextError
from jaxtyping import Array, PRNGKeyArray, PyTree

from jaxinfl.arguments import quote
from jaxinfl.models.layers.conv import Conv, conv_general_dilated
from jaxinfl.models.layers.dense import dot_general
from jaxinfl.models.layers.embed import Embed
from jaxinfl.models.layers.norm import BatchNorm

ModuleFactory = Callable[[nnx.Rngs], nnx.Module]

TRAINING_FLAGS = {
    "train": True,
    "training": True,
    "is_training": True,
    "deterministic": False,
    "use_running_average": False,
}
"""The flags that tell a module whether it is trained, with their value in training; in evaluation they are the opposite.

A flag is set where a module has it as an attribute, and where its `__call__` has it as a parameter that the caller leaves
out. This holds for the module itself and all modules inside it.
"""

REPLACEMENTS: dict[type[nnx.Module], type[nnx.Module]] = {nnx.Conv: Conv, nnx.BatchNorm: BatchNorm, nnx.Embed: Embed}
"""The layers of Flax that are replaced, and the subclass that takes the place of each."""

_MODE = "jaxinfl_training"
"""The attribute that tells a module its mode: Flax compares attributes when it looks for an earlier trace of a part."""


@dataclass(frozen=True)
class Definition:
    """The static side of a module: its graph in both modes and the shapes of its state."""

    train: Any
    evaluate: Any
    params: Any
    rngs: Any
    stats: Any

    def merge(self, params: PyTree[Array], stats: PyTree[Array], *, train: bool, key: PRNGKeyArray) -> Any:
        """Make the module that holds these variables and draws its random numbers from `key`."""
        leaves, structure = jax.tree.flatten(self.rngs)
        streams = [_new_stream_state(leaf, key, i) for i, leaf in enumerate(leaves)]
        return nnx.merge(
            self.train if train else self.evaluate,
            _fill(self.params, params),
            jax.tree.unflatten(structure, streams),
            _fill(self.stats, stats),
            copy=True,
        )


def _new_stream_state(leaf: Any, key: PRNGKeyArray, number: int) -> Array:
    """The state that a stream of random numbers begins with: a key of its own (one for each of stacked layers), or a count of 0."""
    if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jnp.zeros(leaf.shape, leaf.dtype)
    own = jax.random.fold_in(key, number)
    return jax.random.split(own, leaf.shape) if leaf.shape else own


class _Stream(nnx.RngStream):
    """Flax's stream of keys, which gives the same keys in less time.

    Flax assigns to `count[...]`, which asks a tracer for its sharding. JAX then composes a long error message about all
    that was traced before: 588 times in building Inception v3, which took 2.5 of 8 seconds.
    """

    def __call__(self) -> PRNGKeyArray:
        key = jax.random.fold_in(self.key[...], self.count[...])
        self.count.set_value(self.count[...] + 1)
        return key


def build_module(factory: ModuleFactory, key: PRNGKeyArray, name: str) -> tuple[nnx.Module, nnx.Module]:
    """Build the module that a factory makes of a key, with jaxinfl's layers in it; return it and what the factory returned.

    Raises:
      TypeError: the factory returns no module, or a module with a layer into which padding would leak.
      ValueError: the factory draws from a stream of keys that was made before.
    """
    rngs: Any = nnx.Rngs()
    rngs.default = _Stream(key, tag="default")
    try:
        original = factory(rngs)
    except TraceContextError as error:
        raise ValueError(
            f"model {name} changes something that was made before it is built, for example by drawing from another nnx.Rngs "
            f"than it is given ({str(error).partition(' (')[0]}). Draw from its own `rngs`, and make what it changes inside."
        ) from error
    if not isinstance(original, nnx.Module):
        raise TypeError(
            f"model {name} returned {type(original).__name__}; a model is a registered name or a callable "
            "`rngs -> flax.nnx.Module`. A callable that makes an equinox.Module calls its parameter `key`."
        )
    # A copy: the module, or a part of it, may be the caller's own, with weights that were trained before.
    module = nnx.clone(original)
    # Left by a forward pass in the factory; the next one makes them anew.
    nnx.pop(module, nnx.Intermediate)
    for _, part in nnx.iter_modules(module):
        _replace_layer(part, name)
    return module, original


def _replace_layer(part: nnx.Module, name: str) -> None:
    """Give one module of a private copy jaxinfl's operations, and let it know its mode."""
    kind = type(part)
    if isinstance(part, nnx.Conv):
        # A convolution with an operation of the user's own keeps it.
        own = part.conv_general_dilated is not jax.lax.conv_general_dilated
        kind = kind if own else REPLACEMENTS.get(kind, kind)
        part.conv_general_dilated = part.conv_general_dilated if own else conv_general_dilated
    elif isinstance(part, nnx.Linear) and part.dot_general is jax.lax.dot_general:
        part.dot_general = dot_general
    elif isinstance(part, nnx.Embed):
        kind = REPLACEMENTS.get(kind, kind)
    elif isinstance(part, nnx.BatchNorm):
        kind = REPLACEMENTS.get(kind, kind)
        if not issubclass(kind, BatchNorm):
            raise TypeError(
                f"model {name} holds {kind.__name__}, a subclass of nnx.BatchNorm, into whose statistics the padding "
                "of a partial batch would leak. Use nnx.BatchNorm itself, or subclass jaxinfl.models.layers.BatchNorm."
            )
    # The one place where an object changes its class: references to it, from parents, lists or twice, need not be found.
    part.__class__ = _mode_aware_class(kind)


def take_apart(module: nnx.Module, name: str) -> Definition:
    """Return the static side of a module, and the shapes of its state.

    Raises:
      TypeError: the module holds a variable that cannot be kept.
    """
    _set_mode(module, training=True)
    train, *states = split(module)
    _set_mode(module, training=False)
    evaluate = split(module)[0]
    for leaves, is_stream in zip(states, (False, True, False), strict=True):
        for path, leaf in jax.tree_util.tree_flatten_with_path(leaves)[0]:
            variable = jax.tree_util.keystr(path, simple=True, separator=".").removesuffix(".value")
            if not hasattr(leaf, "dtype"):
                raise TypeError(
                    f"model {name}: {variable} is a variable that holds {quote(leaf)}; variables hold arrays. Keep it as a plain "
                    "attribute of the module."
                )
            if not is_stream and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
                raise TypeError(
                    f"model {name}: {variable} is a random key in a variable, which can be kept neither in a checkpoint nor "
                    "with the weights, and would be the same in every model. Keep a stream of keys in its place: "
                    "`self.noise = rngs.fork()` when the module is built and `self.noise()` for each key; jaxinfl gives every "
                    "model and step its own."
                )
    params, rngs, stats = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), states)
    return Definition(train, evaluate, params, rngs, stats)


@functools.cache
def _mode_aware_class(kind: type[nnx.Module]) -> type[nnx.Module]:
    """Make the class whose `__call__` fills in the flags for training that its caller left out; `kind` if it has none."""
    # Flax's own layers take their mode from attributes.
    call_here: Any = getattr(kind, "__call__", None)  # noqa: B004 - of the class, for its parameters
    if kind.__module__.partition(".")[0] == "flax" or call_here is None:
        return kind
    jitted = hasattr(call_here, "lower") and hasattr(call_here, "__wrapped__")
    if jitted:
        # Everything is compiled as a whole; a jit inside would find the trace of another batch, with another's padding.
        call_here = call_here.__wrapped__
    signature = inspect.signature(call_here)
    flags = TRAINING_FLAGS.keys() & signature.parameters.keys()
    if not flags and not jitted:
        return kind

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        given = signature.bind_partial(self, *args, **kwargs).arguments
        training = getattr(self, _MODE)
        missing = {flag: TRAINING_FLAGS[flag] == training for flag in flags if flag not in given}
        return call_here(self, *args, **kwargs, **missing)

    metaclass: Any = type(kind)
    aware: type[nnx.Module] = metaclass(
        kind.__name__, (kind,), {"__call__": call, "__qualname__": kind.__qualname__, _MODE: True}
    )
    return aware


def _set_mode(module: nnx.Module, *, training: bool) -> None:
    # A module's own way of changing its mode comes first; `train` may also be the name of a flag.
    change = module.train if training else module.eval
    if callable(change):
        change()
    for _, part in nnx.iter_modules(module):
        if hasattr(part, _MODE):
            setattr(part, _MODE, training)
        for flag, value in TRAINING_FLAGS.items():
            if _is_flag(part, flag):
                setattr(part, flag, value == training)


def _is_flag(part: nnx.Module, name: str) -> bool:
    """Whether an attribute of this name is a value that may be set, and not a method or property."""
    if isinstance(getattr(type(part), name, None), property):
        return False
    return name in vars(part) or (hasattr(part, name) and not callable(getattr(part, name)))


def split(module: nnx.Module) -> tuple[Any, Any, Any, Any]:
    """Split a module into graph, parameters, state of random streams, and all other variables except sown values."""
    parts: Any = nnx.split(module, nnx.Param, nnx.RngState, nnx.Intermediate, ...)
    graph, params, rngs, _, stats = parts
    return graph, params, rngs, stats


def _fill(abstract: Any, values: PyTree[Array]) -> Any:
    state = jax.tree.map(lambda leaf: leaf, abstract)  # a copy: the next line writes in place
    nnx.replace_by_pure_dict(state, values)
    return state


__all__ = ["TRAINING_FLAGS", "Definition", "ModuleFactory", "build_module", "split", "take_apart"]
