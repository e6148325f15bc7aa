"""A model as a pair of pure functions, made from any Flax NNX module. NNX stays inside this folder."""

import hashlib
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree

from jaxinfl.models.bias import ConvWithBias
from jaxinfl.models.conv import conv_general_dilated
from jaxinfl.models.dense import dot_general
from jaxinfl.models.norm import MaskedBatchNorm, batch_mask

ModuleFactory = Callable[[nnx.Rngs], nnx.Module]


class Variables(NamedTuple):
    """All numbers of one model."""

    params: PyTree[Array]
    """What the optimizer changes."""
    stats: PyTree[Array]
    """What the forward pass changes: batch norm's running mean and variance."""


class WithAuxiliary(NamedTuple):
    """What a model with an auxiliary head says in training."""

    logits: Float[Array, "batch classes"]
    auxiliary: Float[Array, "batch classes"]
    """Logits of a second head, from layers halfway; it has a share in the loss and no other part."""


Output = Float[Array, "batch classes"] | WithAuxiliary


@dataclass(frozen=True, eq=False)
class Model:
    """One architecture as pure functions, for images of one shape and a number of classes.

    Attributes:
      name: the registered name, or the qualified name of the user's callable.
      init: `init(key) -> Variables`.
      apply: `apply(variables, images, train=..., mask=..., key=...) -> (logits, stats)`. `images` are normalized floats
        [batch, h, w, c] in the compute dtype, `mask` bool [batch] leaves padding out of batch norm, `key` drives
        dropout; logits are float32 [batch, classes]. A model with an auxiliary head returns `WithAuxiliary` in place of
        logits in training.
      num_params: number of trainable parameters.
      fingerprint: hash of the parameters' names and shapes and of the computation itself.
    """

    name: str
    init: Callable[[PRNGKeyArray], Variables]
    apply: Callable[..., tuple[Any, PyTree[Array]]]
    num_params: int
    fingerprint: str = field(repr=False)


def model_from_nnx(
    factory: ModuleFactory, *, image_shape: tuple[int, int, int], num_classes: int, name: str | None = None
) -> Model:
    """A `Model` from a callable that builds a Flax NNX module.

    The module is used as it is, but for three things: each `nnx.Conv` gets jaxinfl's convolution (`models/conv.py`), each
    `nnx.Linear` its matrix product (`models/dense.py`), and each `nnx.BatchNorm` leaves padding out (`models/norm.py`).

    Args:
      factory: `rngs -> nnx.Module`; the module maps float images [batch, h, w, c] to logits [batch, classes]; in
        training it may return (logits, auxiliary logits).
      image_shape: (h, w, c).
      num_classes: number of logits that the module must return.
      name: recorded in a run; by default the qualified name of `factory`.

    Raises:
      TypeError: `factory` is not callable with one argument, or does not return an `nnx.Module`.
      ValueError: the module's output for a batch of images is not [batch, num_classes].
    """
    name = name or f"{getattr(factory, '__module__', '')}.{getattr(factory, '__qualname__', type(factory).__name__)}"
    definition = _Definition.from_factory(factory, name)

    def init(key: PRNGKeyArray) -> Variables:
        _, params, _, stats = _split(_build(factory, key, name))
        return Variables(nnx.to_pure_dict(params), nnx.to_pure_dict(stats))

    def apply(
        variables: Variables,
        images: Float[Array, "batch h w c"],
        *,
        train: bool,
        mask: Bool[Array, " batch"] | None = None,
        key: PRNGKeyArray | None = None,
    ) -> tuple[Output, PyTree[Array]]:
        module = definition.merge(variables, train=train, key=key)
        with batch_mask(mask):
            output = _as_output(module(images), train, name)
        stats = nnx.to_pure_dict(_split(module)[3])
        return output, jax.tree.map(lambda new, old: new.astype(old.dtype), stats, variables.stats)

    variables = jax.eval_shape(init, jax.random.key(0))
    check_output(apply, variables, image_shape, num_classes, name)
    return Model(
        name=name,
        init=init,
        apply=apply,
        num_params=sum(leaf.size for leaf in jax.tree.leaves(variables.params)),
        fingerprint=_fingerprint(init, apply, variables, image_shape),
    )


@dataclass(frozen=True)
class _Definition:
    """The static side of a module: its graph in both modes and the shapes of its state."""

    train: Any
    evaluate: Any
    params: Any
    rngs: Any
    stats: Any

    @classmethod
    def from_factory(cls, factory: ModuleFactory, name: str) -> "_Definition":
        module = nnx.eval_shape(lambda: _build(factory, jax.random.key(0), name))
        module.train()
        train, params, rngs, stats = _split(module)
        module.eval()
        return cls(train, _split(module)[0], params, rngs, stats)

    def merge(self, variables: Variables, *, train: bool, key: PRNGKeyArray | None) -> Any:
        """The module holding these variables, its dropout driven by `key`."""
        key = jax.random.key(0) if key is None else key
        leaves, structure = jax.tree.flatten(self.rngs)
        fresh = [
            jax.random.fold_in(key, i)
            if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
            else jnp.zeros(leaf.shape, leaf.dtype)
            for i, leaf in enumerate(leaves)
        ]
        return nnx.merge(
            self.train if train else self.evaluate,
            _filled(self.params, variables.params),
            jax.tree.unflatten(structure, fresh),
            _filled(self.stats, variables.stats),
            copy=True,
        )


class _Stream(nnx.RngStream):
    """Flax's stream of keys, the same ones.

    Flax assigns to `count[...]`, which asks a tracer for its sharding; JAX then composes a long error message about all
    that was traced before, 588 times in building Inception v3: 2.5 of 8 seconds.
    """

    def __call__(self) -> PRNGKeyArray:
        key = jax.random.fold_in(self.key[...], self.count[...])
        self.count.set_value(self.count[...] + 1)
        return key


def _build(factory: ModuleFactory, key: PRNGKeyArray, name: str) -> nnx.Module:
    rngs = nnx.Rngs(key)
    rngs.default.__class__ = _Stream
    module = factory(rngs)
    if not isinstance(module, nnx.Module):
        raise TypeError(
            f"model {name} returned {type(module).__name__}; a model is a registered name or a callable "
            "`rngs -> flax.nnx.Module`."
        )
    for _, part in nnx.iter_modules(module):
        if isinstance(part, nnx.Conv) and part.conv_general_dilated is jax.lax.conv_general_dilated:
            part.conv_general_dilated = conv_general_dilated
            if type(part) is nnx.Conv:
                part.__class__ = ConvWithBias
        elif isinstance(part, nnx.Linear) and part.dot_general is jax.lax.dot_general:
            part.dot_general = dot_general
        elif type(part) is nnx.BatchNorm:
            part.__class__ = MaskedBatchNorm
        elif isinstance(part, nnx.BatchNorm) and not isinstance(part, MaskedBatchNorm):
            raise TypeError(
                f"model {name} holds {type(part).__name__}, a subclass of nnx.BatchNorm, into whose statistics the padding "
                "of a partial batch would leak. Use nnx.BatchNorm itself, or subclass jaxinfl.models.norm.MaskedBatchNorm."
            )
    return module


def _as_output(returned: Any, train: bool, name: str) -> Output:
    """What a module returned, in float32."""
    if train and isinstance(returned, tuple) and len(returned) == 2:
        logits, auxiliary = returned
        return WithAuxiliary(_as_logits(logits, name), _as_logits(auxiliary, name))
    return _as_logits(returned, name)


def _as_logits(returned: Any, name: str) -> Float[Array, "batch classes"]:
    if not hasattr(returned, "astype"):
        raise TypeError(
            f"model {name} returns {type(returned).__name__}; it must return logits [batch, classes], or in training "
            "(logits, auxiliary logits)."
        )
    logits: Array = returned.astype(jnp.float32)
    return logits


def _split(module: nnx.Module) -> tuple[Any, Any, Any, Any]:
    parts: Any = nnx.split(module, nnx.Param, nnx.RngState, ...)
    graph, params, rngs, stats = parts
    return graph, params, rngs, stats


def _filled(abstract: Any, values: PyTree[Array]) -> Any:
    state = jax.tree.map(lambda leaf: leaf, abstract)  # a copy: the next line writes in place
    nnx.replace_by_pure_dict(state, values)
    return state


def check_output(
    apply: Callable[..., Any],
    variables: Variables,
    image_shape: tuple[int, int, int],
    num_classes: int,
    name: str,
) -> None:
    """Raise `ValueError` unless each head of the model returns one logit a class, in training and in evaluation."""
    batch = 2
    images = jax.ShapeDtypeStruct((batch, *image_shape), jnp.float32)
    mask = jax.ShapeDtypeStruct((batch,), np.bool_)
    for train in (True, False):

        def forward(variables: Variables, images: Array, mask: Array, train: bool = train) -> Any:
            return apply(variables, images, train=train, mask=mask)[0]

        # One head, or two.
        for logits in jax.tree.leaves(jax.eval_shape(forward, variables, images, mask)):
            if logits.shape != (batch, num_classes):
                raise ValueError(
                    f"model {name} maps images of shape {(batch, *image_shape)} to {logits.shape} in "
                    f"{'training' if train else 'evaluation'}; it must return one logit a class: {(batch, num_classes)}."
                )


def _fingerprint(
    init: Callable[..., Any], apply: Callable[..., Any], variables: Variables, image_shape: tuple[int, int, int]
) -> str:
    """Hash of what the model computes: parameter names and shapes alone would not tell ReLU from GELU.

    Initialization and both modes as jaxprs, with the arrays that they close over.
    """
    images = jax.ShapeDtypeStruct((2, *image_shape), jnp.float32)
    content = hashlib.sha256(str(jax.tree.map(lambda leaf: leaf.shape, variables)).encode())
    for traced in (
        jax.make_jaxpr(init)(jax.random.key(0)),
        jax.make_jaxpr(lambda v, x: apply(v, x, train=True))(variables, images),
        jax.make_jaxpr(lambda v, x: apply(v, x, train=False))(variables, images),
    ):
        # `str` would colour it on a terminal, and a run begun there could not go on elsewhere.
        text = traced.pretty_print(use_color=False, source_info=False)
        content.update(re.sub(r" at 0x[0-9a-f]+", "", text).encode())
        for constant in traced.consts:
            is_key = jnp.issubdtype(getattr(constant, "dtype", None) or np.result_type(constant), jax.dtypes.prng_key)
            content.update(np.asarray(jax.random.key_data(constant) if is_key else constant).tobytes())
    return content.hexdigest()


def check_factory(model: object) -> None:
    """Raise `TypeError` unless `model` can be called as `rngs -> nnx.Module`."""
    if not callable(model):
        raise TypeError(f"model is {model!r}; it takes a registered name or a callable `rngs -> flax.nnx.Module`.")
    try:
        inspect.signature(model).bind(None)
    except TypeError as error:
        raise TypeError(
            f"model {model!r} cannot be called with one argument ({error}); "
            "it takes a callable `rngs -> flax.nnx.Module`, for example `lambda rngs: MyNet(rngs=rngs)`."
        ) from None
    except ValueError:  # a builtin without a signature: calling it will tell
        pass


__all__ = ["Model", "ModuleFactory", "Output", "Variables", "WithAuxiliary", "check_factory", "model_from_nnx"]
