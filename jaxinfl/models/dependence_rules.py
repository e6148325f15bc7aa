"""Rules for JAX's operations: each gives the sources of the results from those of the operands (see `dependence`)."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from jax.extend.core import JaxprEqn

FIRST_EXAMPLE, SECOND_EXAMPLE, KEY, DRAWN = 1, 2, 4, 8
"""The sources: either of two examples, the random key that a model is given, and any generator of random numbers."""

BOTH_EXAMPLES = FIRST_EXAMPLE | SECOND_EXAMPLE

Sources = np.ndarray
"""uint8 of the shape of the array whose numbers it describes; each bit is a source."""

Rule = Callable[[JaxprEqn, list[Sources]], list[Sources] | None]
"""The sources of an operation's results from those of its operands; None where the rule does not cover the case."""


def union(arrays: Iterable[Sources]) -> int:
    """The sources of all numbers together."""
    return int(np.bitwise_or.reduce([np.uint8(0), *(np.bitwise_or.reduce(each, axis=None) for each in arrays)]))


def union_of_arrays(arrays: Iterable[Sources], shape: tuple[int, ...]) -> Sources:
    """The union of the sources of several arrays, number by number; arrays without dimensions join all numbers."""
    read = list(arrays)
    # Arrays of one value are kept as that value: the weights of a ResNet-18 took 60 ms otherwise.
    if math.prod(shape) and not any(any(array.strides) for array in read):
        return np.broadcast_to(np.uint8(union(array[(0,) * array.ndim] for array in read)), shape)
    result = np.zeros(shape, np.uint8)
    for array in read:
        result |= array
    return result


def shapes_of(eqn: JaxprEqn) -> list[tuple[int, ...]]:
    """The shapes of an operation's results."""
    results: list[Any] = list(eqn.outvars)
    return [result.aval.shape for result in results]


def _over(array: Sources, axes: Iterable[int]) -> Sources:
    """The union of the sources over some axes, which stay with length 1."""
    chosen = tuple(axes)
    return np.bitwise_or.reduce(array, axis=chosen, keepdims=True) if chosen else array


def _reduce(eqn: JaxprEqn, read: list[Sources]) -> list[Sources]:
    axes = tuple(eqn.params["axes"] if "axes" in eqn.params else eqn.params["dimensions"])
    return [np.bitwise_or.reduce(read[0], axis=axes) if axes else read[0]] * len(eqn.outvars)


def _along_one_axis(eqn: JaxprEqn, read: list[Sources]) -> list[Sources]:
    """Rule of sorting and cumulative operations: every number of the result depends on all numbers along the axis."""
    axis = eqn.params["axis"] if "axis" in eqn.params else eqn.params["dimension"]
    together = _over(union_of_arrays(read, read[0].shape), [axis])
    return [np.broadcast_to(together, shape) for shape in shapes_of(eqn)]


def _top_k(eqn: JaxprEqn, read: list[Sources]) -> list[Sources]:
    axis = eqn.params.get("axis", -1)
    return [np.broadcast_to(_over(read[0], [axis]), shape) for shape in shapes_of(eqn)]


def _broadcast_in_dim(eqn: JaxprEqn, read: list[Sources]) -> list[Sources]:
    shape, where = eqn.params["shape"], eqn.params["broadcast_dimensions"]
    spread = [1] * len(shape)
    for axis, size in zip(where, read[0].shape, strict=True):
        spread[axis] = size
    return [np.broadcast_to(read[0].reshape(spread), shape)]


def _reshape(eqn: JaxprEqn, read: list[Sources]) -> list[Sources]:
    return [read[0].reshape(shapes_of(eqn)[0])]


def _transpose(eqn: JaxprEqn, read: list[Sources]) -> list[Sources]:
    return [read[0].transpose(eqn.params["permutation"])]


def _rev(eqn: JaxprEqn, read: list[Sources]) -> list[Sources]:
    return [np.flip(read[0], eqn.params["dimensions"])]


def _slice(eqn: JaxprEqn, read: list[Sources]) -> list[Sources]:
    starts, limits = eqn.params["start_indices"], eqn.params["limit_indices"]
    steps = eqn.params["strides"] or (1,) * len(starts)
    return [read[0][tuple(map(slice, starts, limits, steps))]]


def _split(eqn: JaxprEqn, read: list[Sources]) -> list[Sources]:
    cuts = np.cumsum(eqn.params["sizes"])[:-1]
    return np.split(read[0], cuts, axis=eqn.params["axis"])


def _concatenate(eqn: JaxprEqn, read: list[Sources]) -> list[Sources]:
    return [np.concatenate(read, axis=eqn.params["dimension"])]


def _pad(eqn: JaxprEqn, read: list[Sources]) -> list[Sources]:
    array, value = read
    for axis, (low, high, inner) in enumerate(eqn.params["padding_config"]):
        size = array.shape[axis]
        spaced = size + max(size - 1, 0) * inner
        padded = np.full((*array.shape[:axis], spaced + max(low, 0) + max(high, 0), *array.shape[axis + 1 :]), value)
        at = [slice(None)] * array.ndim
        at[axis] = slice(max(low, 0), max(low, 0) + spaced, inner + 1)
        padded[tuple(at)] = array
        at[axis] = slice(max(-low, 0), padded.shape[axis] - max(-high, 0))
        array = padded[tuple(at)]
    return [array]


def _dynamic_slice(eqn: JaxprEqn, read: list[Sources]) -> list[Sources]:
    array, starts = read[0], read[1:]
    sizes = eqn.params["slice_sizes"]
    moved = _over(array, (axis for axis, size in enumerate(sizes) if size != array.shape[axis]))
    return [np.broadcast_to(moved | np.uint8(union(starts)), sizes)]


def _dynamic_update_slice(eqn: JaxprEqn, read: list[Sources]) -> list[Sources]:
    array, update, starts = read[0], read[1], read[2:]
    moved = _over(update, (axis for axis, size in enumerate(update.shape) if size != array.shape[axis]))
    return [array | moved | np.uint8(union(starts))]


def _gather(eqn: JaxprEqn, read: list[Sources]) -> list[Sources]:
    array, indices = read
    numbers, sizes = eqn.params["dimension_numbers"], eqn.params["slice_sizes"]
    shape = shapes_of(eqn)[0]
    if getattr(numbers, "operand_batching_dims", ()):
        return [np.full(shape, union(read), np.uint8)]
    # A dimension of which every slice takes the whole stands unchanged in the result; along the others anything may be read.
    dropped = set(numbers.collapsed_slice_dims)
    kept = [axis for axis in range(array.ndim) if axis not in dropped]
    whole = {axis for axis in kept if sizes[axis] == array.shape[axis]}
    moved = _over(array, (axis for axis in range(array.ndim) if axis not in whole))
    spread = [1] * len(shape)
    for axis, position in zip(kept, numbers.offset_dims, strict=True):
        spread[position] = moved.shape[axis]
    where = np.ones(len(shape), int)
    of_batch = [axis for axis in range(len(shape)) if axis not in numbers.offset_dims]
    where[of_batch] = indices.shape[:-1]
    chosen = np.bitwise_or.reduce(indices, axis=-1).reshape(where)
    return [np.broadcast_to(moved.reshape(spread) | chosen, shape)]


def _scatter(eqn: JaxprEqn, read: list[Sources]) -> list[Sources]:
    array, indices, updates = read
    numbers = eqn.params["dimension_numbers"]
    if getattr(numbers, "operand_batching_dims", ()):
        return [array | np.uint8(union([indices, updates]))]
    kept = [axis for axis in range(array.ndim) if axis not in set(numbers.inserted_window_dims)]
    spread = [1] * array.ndim
    whole = []
    for axis, position in zip(kept, numbers.update_window_dims, strict=True):
        if updates.shape[position] == array.shape[axis]:
            spread[axis] = array.shape[axis]
            whole.append(position)
    moved = _over(updates, (axis for axis in range(updates.ndim) if axis not in whole))
    return [array | moved.reshape(spread) | np.uint8(union([indices]))]


def _dot_general(eqn: JaxprEqn, read: list[Sources]) -> list[Sources]:
    (left_sum, right_sum), (left_batch, right_batch) = eqn.params["dimension_numbers"]
    left, right = read
    left_free = [axis for axis in range(left.ndim) if axis not in (*left_sum, *left_batch)]
    right_free = [axis for axis in range(right.ndim) if axis not in (*right_sum, *right_batch)]
    left = _over(left, left_sum).transpose(*left_batch, *left_free, *left_sum)
    right = _over(right, right_sum).transpose(*right_batch, *right_free, *right_sum)
    batch = left.shape[: len(left_batch)]
    left_shape, right_shape = left.shape[len(batch) :][: len(left_free)], right.shape[len(batch) :][: len(right_free)]
    left = left.reshape(*batch, *left_shape, *(1,) * len(right_free))
    return [left | right.reshape(*batch, *(1,) * len(left_free), *right_shape)]


def _convolution(eqn: JaxprEqn, read: list[Sources]) -> list[Sources]:
    images, kernel = read
    numbers, shape = eqn.params["dimension_numbers"], shapes_of(eqn)[0]
    if eqn.params["batch_group_count"] != 1:
        return [np.full(shape, union(read), np.uint8)]
    groups = eqn.params["feature_group_count"]
    batch, inputs, outputs = numbers.lhs_spec[0], numbers.lhs_spec[1], numbers.rhs_spec[0]
    # All positions and all channels of a group are taken together.
    of_image = _over(images, (axis for axis in range(images.ndim) if axis not in (batch, inputs)))
    of_image = np.moveaxis(of_image, (batch, inputs), (0, 1)).reshape(images.shape[batch], groups, -1)
    of_kernel = np.bitwise_or.reduce(np.moveaxis(kernel, outputs, 0).reshape(kernel.shape[outputs], -1), axis=1)
    by_group = np.bitwise_or.reduce(of_image, axis=2)
    result = np.repeat(by_group, kernel.shape[outputs] // groups, axis=1) | of_kernel[None]
    spread = [1] * len(shape)
    out_batch, out_features = numbers.out_spec[:2]
    spread[out_batch], spread[out_features] = shape[out_batch], shape[out_features]
    return [np.broadcast_to((result if out_batch < out_features else result.T).reshape(spread), shape)]


def _windows(eqn: JaxprEqn, read: list[Sources]) -> list[Sources]:
    """Rule of pooling: dimensions in which a window is one number stay; along the others all numbers are taken together."""
    array, shape = read[0], shapes_of(eqn)[0]
    sizes = eqn.params["window_dimensions"]
    moved = _over(array, (axis for axis in range(array.ndim) if sizes[axis] != 1 or shape[axis] != array.shape[axis]))
    return [np.broadcast_to(moved | np.uint8(union(read[1:])), shape)]


def _matrices(eqn: JaxprEqn, read: list[Sources]) -> list[Sources] | None:
    """Rule of linear algebra on stacks of matrices: each result depends on the matrices at its own place in the stack."""
    batch = read[0].shape[:-2]
    if any(each.ndim < 2 or each.shape[:-2] != batch for each in read):
        return None
    together = np.bitwise_or.reduce([_over(each, (-2, -1)) for each in read]).reshape(batch)
    return [
        np.broadcast_to(together.reshape(*batch, *(1,) * (len(shape) - len(batch))), shape) for shape in shapes_of(eqn)
    ]


def _fourier(eqn: JaxprEqn, read: list[Sources]) -> list[Sources]:
    last = len(eqn.params["fft_lengths"])
    return [np.broadcast_to(_over(read[0], range(-last, 0)), shapes_of(eqn)[0])]


def _draw(eqn: JaxprEqn, read: list[Sources]) -> list[Sources]:
    return [np.broadcast_to(np.uint8(union(read) | DRAWN), shape) for shape in shapes_of(eqn)]


def _one_by_one(eqn: JaxprEqn, read: list[Sources]) -> list[Sources]:
    return list(read)


ELEMENTWISE = frozenset(
    [
        "abs",
        "acos",
        "acosh",
        "add",
        "add_any",
        "and",
        "asin",
        "asinh",
        "atan",
        "atan2",
        "atanh",
        "bessel_i0e",
        "bessel_i1e",
        "cbrt",
        "ceil",
        "clamp",
        "clz",
        "complex",
        "conj",
        "convert_element_type",
        "copy",
        "copy_p",
        "cos",
        "cosh",
        "digamma",
        "div",
        "eq",
        "eq_to",
        "erf",
        "erf_inv",
        "erfc",
        "exp",
        "exp2",
        "expm1",
        "floor",
        "ge",
        "gt",
        "igamma",
        "igamma_grad_a",
        "igammac",
        "imag",
        "integer_pow",
        "is_finite",
        "le",
        "le_to",
        "lgamma",
        "log",
        "log1p",
        "logistic",
        "lt",
        "lt_to",
        "max",
        "min",
        "mul",
        "mulhi",
        "ne",
        "neg",
        "nextafter",
        "not",
        "or",
        "polygamma",
        "population_count",
        "pow",
        "real",
        "reduce_precision",
        "regularized_incomplete_beta",
        "rem",
        "round",
        "rsqrt",
        "select_n",
        "shift_left",
        "shift_right_arithmetic",
        "shift_right_logical",
        "sign",
        "sin",
        "sinh",
        "sqrt",
        "square",
        "stop_gradient",
        "sub",
        "tan",
        "tanh",
        "threefry2x32",
        "xor",
        "zeta",
    ]
)
RULES: dict[str, Rule] = {
    **dict.fromkeys(
        ["reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "reduce_and", "reduce_or", "reduce_xor"], _reduce
    ),
    **dict.fromkeys(["argmax", "argmin"], _reduce),
    **dict.fromkeys(["sort", "cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp"], _along_one_axis),
    **dict.fromkeys(["scatter", "scatter-add", "scatter_add", "scatter_mul", "scatter_min", "scatter_max"], _scatter),
    **dict.fromkeys(["reduce_window_sum", "reduce_window_max", "reduce_window_min", "reduce_window"], _windows),
    **dict.fromkeys(
        ["cholesky", "eigh", "svd", "lu", "qr", "triangular_solve", "householder_product", "geqrf"], _matrices
    ),
    **dict.fromkeys(["random_bits", "random_gamma", "rng_bit_generator", "rng_uniform"], _draw),
    "top_k": _top_k,
    "broadcast_in_dim": _broadcast_in_dim,
    "reshape": _reshape,
    "squeeze": _reshape,
    "expand_dims": _reshape,
    "transpose": _transpose,
    "rev": _rev,
    "slice": _slice,
    "split": _split,
    "concatenate": _concatenate,
    "pad": _pad,
    "dynamic_slice": _dynamic_slice,
    "dynamic_update_slice": _dynamic_update_slice,
    "gather": _gather,
    "dot_general": _dot_general,
    "conv_general_dilated": _convolution,
    "fft": _fourier,
    "optimization_barrier": _one_by_one,
}

__all__ = [
    "BOTH_EXAMPLES",
    "DRAWN",
    "ELEMENTWISE",
    "FIRST_EXAMPLE",
    "KEY",
    "RULES",
    "SECOND_EXAMPLE",
    "Sources",
    "shapes_of",
    "union",
    "union_of_arrays",
]
