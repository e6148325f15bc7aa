"""A `Model` from a pair of pure functions, `init` and `apply`, which takes no framework."""

import inspect
from collections.abc import Callable, Collection
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, PRNGKeyArray, PyTree

from jaxinfl.arguments import quote
from jaxinfl.models.assemble import Assembled, assemble, build_checked, name_of
from jaxinfl.models.inputs import InputSpec, as_spec
from jaxinfl.models.model import Model, Variables
from jaxinfl.models.nested import Shape, nest

Functions = tuple[Callable[..., Any], Callable[..., Any]]
"""`init(key) -> variables` and `apply(variables, inputs, *, train, key) -> outputs`."""
EXPECTED_PAIR = "a pair of functions `init(key) -> variables` and `apply(variables, inputs, *, train, key) -> outputs`"


def model_from_functions(
    functions: Functions,
    *,
    inputs: InputSpec | tuple[int, ...],
    outputs: tuple[int, ...] | int | None,
    name: str | None = None,
    allow: Collection[str] = (),
) -> Model:
    """Make a `Model` of a pair of pure functions.

    `init(key)` returns the variables: any pytree of float arrays, all of which are trained. `apply(variables, inputs, *, train,
    key)` returns the outputs of a batch. `train` is a bool, and `key` is a key of its own for each step of each model.

    Numbers that the forward pass changes and the optimizer does not are given as `Variables(params, stats)`. Then `apply`
    gets such a pair, and returns (outputs, stats). An `apply` with a parameter `mask` is given bool [batch]: whether an
    example counts, which the copies that fill up a batch do not.

    Args:
      functions: the pair (init, apply).
      inputs: what the model takes of one example; a shape stands for one array of floats.
      outputs: number of outputs, or their shape for one example; None takes any.
      name: name of the model in a run; by default the qualified names of both functions.
      allow: as in `model_from_nnx`.

    Raises:
      TypeError: `functions` is no pair of functions with these parameters, or a variable is no array or cannot be trained.
      ValueError: whatever `build_checked` refuses.
    """
    takes_mask = check_pair(functions)
    spec = as_spec(inputs)
    name = name or name_of_pair(functions)
    return build_checked(
        lambda: _assemble(functions, name, spec, takes_mask),
        inputs=spec,
        outputs=outputs,
        allow=allow,
        takes_mask=takes_mask,
    ).model


def name_of_pair(functions: Functions) -> str:
    """Name the pair by both functions, "(package.init, package.apply)"."""
    return f"({', '.join(map(name_of, functions))})"


def check_pair(functions: Any) -> bool:
    """Return whether `apply` takes a mask.

    Raises:
      TypeError: `functions` is no pair of functions with the parameters that they need.
    """
    if len(functions) != 2 or not all(map(callable, functions)):
        raise TypeError(f"model is {quote(functions)}; a tuple takes {EXPECTED_PAIR}.")
    init, apply = functions
    parameters = _parameters(init), _parameters(apply)
    takes_mask = parameters[1] is not None and "mask" in parameters[1].parameters
    _check_call(init, parameters[0], "init", "init(key)", None)
    named = {"train": True, "key": None} | ({"mask": None} if takes_mask else {})
    _check_call(apply, parameters[1], "apply", "apply(variables, inputs, train=..., key=...)", None, None, **named)
    return takes_mask


def _parameters(function: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):  # a builtin without a signature: calling it will tell
        return None


def _check_call(
    function: Callable[..., Any], parameters: inspect.Signature | None, role: str, call: str, *args: Any, **kwargs: Any
) -> None:
    if parameters is None:
        return
    try:
        parameters.bind(*args, **kwargs)
    except TypeError as error:
        raise TypeError(
            f"model: its {role}, {name_of(function)}, cannot be called as `{call}` ({error}); model takes {EXPECTED_PAIR}."
        ) from None


def _assemble(functions: Functions, name: str, inputs: InputSpec, takes_mask: bool) -> Assembled:
    own_init, own_apply = functions
    seen: list[tuple[Shape, Shape, bool]] = []

    def init(key: PRNGKeyArray) -> Variables:
        made = own_init(key)
        keeps_stats = isinstance(made, Variables)
        params, shape_of_params = nest(made.params if keeps_stats else made, name, "params")
        stats, shape_of_stats = nest(made.stats if keeps_stats else {}, name, "stats")
        if not seen:
            seen.append((shape_of_params, shape_of_stats, keeps_stats))
        return Variables(params, stats)

    def forward(
        variables: Variables, inputs: Any, *, train: bool, mask: Bool[Array, " batch"] | None, key: PRNGKeyArray
    ) -> tuple[Any, PyTree[Array]]:
        shape_of_params, shape_of_stats, keeps_stats = seen[0]
        given: Any = shape_of_params.rebuild(variables.params)
        if keeps_stats:
            given = Variables(given, shape_of_stats.rebuild(variables.stats))
        more = {"mask": jnp.ones(_batch_size(inputs), bool) if mask is None else mask} if takes_mask else {}
        returned = own_apply(given, inputs, train=train, key=key, **more)
        if not keeps_stats:
            return returned, variables.stats
        if not isinstance(returned, tuple) or len(returned) != 2:
            raise TypeError(
                f"model {name}: apply returned {type(returned).__name__}; where init returns Variables(params, stats), it "
                "returns the pair (outputs, stats)."
            )
        return returned[0], nest(returned[1], name, "stats")[0]

    return assemble(init, forward, name, inputs)


def _batch_size(inputs: Any) -> int:
    return len(next(iter(inputs.values())) if isinstance(inputs, dict) else inputs)


__all__ = ["EXPECTED_PAIR", "Functions", "check_pair", "model_from_functions", "name_of_pair"]
