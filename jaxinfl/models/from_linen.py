"""A `Model` from a Flax Linen module. It is imported only for a caller who imported Linen.

The module's own functions `init` and `apply` are the pair that jaxinfl trains. Calls of the modules inside it are looked at on
their way, for two things. Flags for training are filled in where the caller left them out. And Linen's batch norm is computed
by the functions of jaxinfl's own, which leave padding out of the statistics.
"""

import contextlib
import inspect
from collections.abc import Collection, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen
from flax.core import unfreeze
from jaxtyping import Array, Bool, PRNGKeyArray, PyTree

from jaxinfl.models.assemble import Assembled, assemble, build_checked, name_of
from jaxinfl.models.inputs import InputSpec, as_spec
from jaxinfl.models.layers.context import current_context
from jaxinfl.models.layers.norm import check_rows, choose_sums, normalize, standardize
from jaxinfl.models.model import Model, Variables
from jaxinfl.models.module import TRAINING_FLAGS
from jaxinfl.models.nested import nest

_LOOKED_AT = ("intermediates", "perturbations")
"""Collections of values that are only looked at, which are dropped."""


def model_from_linen(
    module: linen.Module,
    *,
    inputs: InputSpec | tuple[int, ...],
    outputs: tuple[int, ...] | int | None,
    name: str | None = None,
    allow: Collection[str] = (),
) -> Model:
    """Make a `Model` of a Linen module, which holds no variables by itself.

    Flags that tell a module whether it is trained (`TRAINING_FLAGS`) are set where `__call__` has them as a parameter that the
    caller leaves out, and where the module itself has them as a field. The collection "params" is trained. All others are
    statistics, but for values that are sown.

    Args:
      module: the module; it maps a batch of inputs to outputs, in training or to (outputs, auxiliary outputs).
      inputs, outputs, allow: as in `model_from_nnx`.
      name: name of the model in a run; by default the qualified name of its class.

    Raises:
      TypeError, ValueError: whatever `build_checked` refuses, and batch norm from which padding cannot be left out.
    """
    name = name or name_of(type(module))
    spec = as_spec(inputs)
    return build_checked(lambda: _assemble(module, name, spec), inputs=spec, outputs=outputs, allow=allow).model


def _assemble(module: linen.Module, name: str, inputs: InputSpec) -> Assembled:
    example = inputs.map(lambda array: jnp.zeros((2, *array.shape), array.dtype))

    def init(key: PRNGKeyArray) -> Variables:
        with _calls_of_modules(train=True, name=name):
            made: Any = unfreeze(_in_mode(module, train=True).init(key, example))
        params = made.pop("params", {})
        stats = {kind: values for kind, values in made.items() if kind not in _LOOKED_AT}
        return Variables(nest(params, name, "params")[0], nest(stats, name, "stats")[0])

    def forward(
        variables: Variables, inputs: Any, *, train: bool, mask: Bool[Array, " batch"] | None, key: PRNGKeyArray
    ) -> tuple[Any, PyTree[Array]]:
        with _calls_of_modules(train=train, name=name):
            returned, changed = _in_mode(module, train=train).apply(
                {"params": variables.params} | variables.stats,
                inputs,
                rngs={"params": jax.random.fold_in(key, 0), "dropout": jax.random.fold_in(key, 1)},
                mutable=list(variables.stats),
            )
        return returned, variables.stats | unfreeze(changed)

    return assemble(init, forward, name, inputs)


def _in_mode(module: linen.Module, *, train: bool) -> linen.Module:
    """The module with its own flags for training set."""
    if type(module).__module__.startswith("flax."):  # Linen's own layers take their flags from the call
        return module
    own: Any = {flag: value == train for flag, value in TRAINING_FLAGS.items() if flag in module.__dataclass_fields__}
    return module.clone(**own) if own else module


@contextlib.contextmanager
def _calls_of_modules(*, train: bool, name: str) -> Iterator[None]:
    def intercept(call: Any, args: tuple[Any, ...], kwargs: dict[str, Any], context: Any) -> Any:
        module = context.module
        if context.method_name != "__call__":
            return call(*args, **kwargs)
        if isinstance(module, linen.BatchNorm):
            _check_batch_norm(module, name)
        kwargs = kwargs | _missing_flags(context, args, kwargs, train)
        if isinstance(module, linen.BatchNorm) and not module.is_initializing():
            return _batch_norm(module, name, *args, **kwargs)
        return call(*args, **kwargs)

    with linen.intercept_methods(intercept):
        yield


def _missing_flags(context: Any, args: tuple[Any, ...], kwargs: dict[str, Any], train: bool) -> dict[str, bool]:
    # Of the method that is called, which a subclass may have overridden.
    signature = inspect.signature(context.orig_method)
    given = signature.bind_partial(*args, **kwargs).arguments
    return {
        flag: value == train
        for flag, value in TRAINING_FLAGS.items()
        # Flax refuses a flag that a layer has as a field, too.
        if flag in signature.parameters and flag not in given and getattr(context.module, flag, None) is None
    }


def _check_batch_norm(module: linen.BatchNorm, name: str) -> None:
    """Raise unless padding can be left out of the statistics of a batch norm exactly."""
    if type(module).__call__ is not linen.BatchNorm.__call__:
        raise TypeError(
            f"model {name} holds {type(module).__name__}, a subclass of linen.BatchNorm, into whose statistics the padding of a "
            "partial batch would leak. Use linen.BatchNorm itself."
        )
    if module.axis_name is not None:
        raise ValueError(
            f"model {name} holds linen.BatchNorm with axis_name={module.axis_name!r}; each model is on one device. Leave it out."
        )


def _batch_norm(
    module: linen.BatchNorm, name: str, x: Array, use_running_average: bool | None = None, *, mask: Array | None = None
) -> Array:
    """Compute batch norm as `jaxinfl.models.layers.BatchNorm` does, with the variables of Linen's."""
    if module.axis not in (-1, x.ndim - 1) or mask is not None:
        raise ValueError(
            f"model {name} holds linen.BatchNorm with axis={module.axis} and {'a mask' if mask is not None else 'no mask'}; padding is "
            "left out exactly where it normalizes along the last axis, without a mask of its own. Leave these arguments out."
        )
    asked = linen.merge_param("use_running_average", module.use_running_average, use_running_average)
    values = x.astype(jnp.float32)
    scale = module.get_variable("params", "scale") if module.use_scale else jnp.ones(x.shape[-1])
    bias = module.get_variable("params", "bias") if module.use_bias else jnp.zeros(x.shape[-1])
    scale, bias = scale.astype(jnp.float32), bias.astype(jnp.float32)
    mean: Array = module.get_variable("batch_stats", "mean")
    variance: Array = module.get_variable("batch_stats", "var")
    if asked or current_context().running_averages:
        result = standardize(values, mean, variance, scale, bias, module.epsilon)
    else:
        counted = check_rows(current_context().counted, len(x))
        result, own_mean, own_variance = normalize(values, counted, scale, bias, module.epsilon, choose_sums(x))
        share = 1 - module.momentum
        module.put_variable("batch_stats", "mean", module.momentum * mean + share * own_mean)
        module.put_variable("batch_stats", "var", module.momentum * variance + share * own_variance)
    return result.astype(module.dtype or x.dtype)


__all__ = ["model_from_linen"]
