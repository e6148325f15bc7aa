"""A `Model` from a function of a key that makes an Equinox module. It is imported only for a caller who imported Equinox.

The arrays of the module are its variables, and the rest is put back around them at each forward pass. A module of Equinox maps
one example, so that examples cannot meet: jaxinfl maps it over the batch.
"""

import inspect
from collections.abc import Callable, Collection
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, Bool, PRNGKeyArray, PyTree

from jaxinfl.models.assemble import Assembled, assemble, build_checked, name_of
from jaxinfl.models.factory import as_factory
from jaxinfl.models.inputs import InputSpec, as_spec
from jaxinfl.models.model import Model, Variables
from jaxinfl.models.nested import Shape, nest

ModuleOfKey = Callable[[PRNGKeyArray], eqx.Module]


def model_from_equinox(
    factory: ModuleOfKey,
    *,
    inputs: InputSpec | tuple[int, ...],
    outputs: tuple[int, ...] | int | None,
    name: str | None = None,
    allow: Collection[str] = (),
) -> Model:
    """Make a `Model` of a callable `key -> eqx.Module`.

    The module is called with one example, and with `key=...` where `__call__` has that parameter. In evaluation,
    `eqx.nn.inference_mode` switches its layers over. Arrays of floats are trained (`eqx.is_inexact_array`); other arrays are kept
    as they are.

    Args:
      factory: the module's class, or a function of a parameter called `key`.
      inputs, outputs, allow: as in `model_from_nnx`.
      name: name of the model in a run; by default the qualified name of `factory`.

    Raises:
      TypeError: `factory` does not make an `eqx.Module`.
      ValueError: the module keeps a state, as batch norm does, and whatever `build_checked` refuses.
    """
    name = name or name_of(factory)
    build = as_factory(factory, "key")
    spec = as_spec(inputs)
    return build_checked(lambda: _assemble(build, name, spec), inputs=spec, outputs=outputs, allow=allow).model


def _assemble(factory: Callable[[Any], Any], name: str, inputs: InputSpec) -> Assembled:
    seen: list[tuple[Shape, Shape, Any, Any]] = []

    def init(key: PRNGKeyArray) -> Variables:
        module = _check_module(factory(key), name)
        trained, others = eqx.partition(module, eqx.is_inexact_array)
        constants, rest = eqx.partition(others, eqx.is_array)
        params, shape_of_params = nest(trained, name, "params")
        stats, shape_of_stats = nest(constants, name, "stats")
        if not seen:
            seen.append((shape_of_params, shape_of_stats, rest, module if _holds_no_tracer(module) else None))
        return Variables(params, stats)

    def forward(
        variables: Variables, inputs: Any, *, train: bool, mask: Bool[Array, " batch"] | None, key: PRNGKeyArray
    ) -> tuple[Any, PyTree[Array]]:
        shape_of_params, shape_of_stats, rest, _ = seen[0]
        parts = shape_of_params.rebuild(variables.params), shape_of_stats.rebuild(variables.stats), rest
        module: Any = eqx.nn.inference_mode(eqx.combine(*parts), value=not train)
        if "key" not in inspect.signature(type(module).__call__).parameters:
            return jax.vmap(module)(inputs), variables.stats
        keys = jax.random.split(key, len(jax.tree.leaves(inputs)[0]))
        return jax.vmap(lambda example, own: module(example, key=own))(inputs, keys), variables.stats

    assembled = assemble(init, forward, name, inputs)
    return assembled._replace(module=seen[0][3])


def _check_module(made: Any, name: str) -> eqx.Module:
    """Raise unless a factory made a module of Equinox that keeps no state."""
    if not isinstance(made, (eqx.Module, tuple)):
        raise TypeError(
            f"model {name} returned {type(made).__name__}; a function of `key` returns an equinox.Module. One that returns a "
            "flax.nnx.Module calls its parameter `rngs`."
        )
    parts = jax.tree.leaves(made, is_leaf=lambda part: isinstance(part, (eqx.nn.StateIndex, eqx.nn.State)))
    if isinstance(made, tuple) or any(isinstance(part, (eqx.nn.StateIndex, eqx.nn.State)) for part in parts):
        raise ValueError(
            f"model {name} keeps an equinox.nn.State, as equinox.nn.BatchNorm does. It cannot be told which examples only fill up a "
            "batch, so their copies would count in its statistics. Use LayerNorm or GroupNorm, or batch norm in a "
            "flax.nnx.Module or flax.linen.Module."
        )
    return made


def _holds_no_tracer(module: eqx.Module) -> bool:
    """Whether a module was made before it was asked for, so that each call may return the same one."""
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(module))


__all__ = ["model_from_equinox"]
