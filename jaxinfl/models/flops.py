"""The FLOPs of a traced program, counted from its shapes: XLA counts them on processors only, and not on graphics cards."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from jax.extend.core import ClosedJaxpr, Jaxpr

_MOVES = frozenset(
    (
        "reshape",
        "broadcast_in_dim",
        "transpose",
        "squeeze",
        "expand_dims",
        "copy",
        "convert_element_type",
        "bitcast_convert_type",
        "slice",
        "split",
        "dynamic_slice",
        "dynamic_update_slice",
        "concatenate",
        "pad",
        "rev",
        "gather",
        "iota",
        "stop_gradient",
        "optimization_barrier",
    )
)
"""Operations that move numbers and compute none."""


def count_flops(program: Jaxpr) -> int:
    """Count the FLOPs of a traced program; a multiplication and an addition are two.

    Matrix products and convolutions count every term of their sums, those of a padded border included. Any other operation counts one
    for each number that it takes or gives, whichever are more. A loop whose number of turns is unknown counts one turn, and a
    branch its most expensive side.
    """
    return sum(_count(equation) for equation in program.eqns)


def inner_programs(params: Mapping[str, Any]) -> Iterator[Jaxpr]:
    """The programs inside an equation, which calls, loops and branches have."""
    for value in params.values():
        for part in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(part, (ClosedJaxpr, Jaxpr)):
                yield part.jaxpr if isinstance(part, ClosedJaxpr) else part


def _count(equation: Any) -> int:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        left = equation.invars[0].aval.shape
        return 2 * equation.outvars[0].aval.size * math.prod(left[axis] for axis in contracted)
    if name == "conv_general_dilated":
        kernel = equation.invars[1].aval
        return 2 * equation.outvars[0].aval.size * kernel.size // kernel.shape[params["dimension_numbers"].rhs_spec[0]]
    inside = [count_flops(each) for each in inner_programs(params)]
    if inside:
        total: Callable[[list[int]], int] = max if name == "cond" else sum
        return total(inside) * params.get("length", 1)
    if name in _MOVES:
        return 0
    return max(sum(_size(each) for each in variables) for variables in (equation.invars[:1], equation.outvars))


def _size(variable: Any) -> int:
    return int(getattr(variable.aval, "size", 1))


__all__ = ["count_flops", "inner_programs"]
