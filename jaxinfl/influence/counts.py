"""Kernels of the joint counts: how many models were trained on example i and are right on example j, exactly.

Everything else in this package that is made of 0-1 scores follows from these integers and from row and column totals.
Three kernels give the same integers. At 2000 models x 4096 train x 10000 test on 2 cores with AVX2, where one float32
matrix product takes 1.1 s and the published formula with two masked ones in NumPy 2.3 s:

- `native`, for CPUs with a C++ compiler, 0.17 s: a table tells for four models at once how many of them two examples
  share (`jaxinfl/native/counts.cpp`).
- `bits`, for other CPUs, 0.25 s (0.11 s with AVX-512, which counts the bits of a word in one instruction). The models are
  the bits of words: one AND and one population count serve 64 models. XLA turns the sum over words, written out, into a
  single fused loop that is vectorized along the test examples and split over the cores. uint32 words take 1.4 times as
  long, uint8 words are not vectorized. The loop must not sit inside `lax.map` or `lax.scan`: XLA:CPU runs what is in a
  while loop on one core. So tiles are a Python loop over one compiled function, and JAX's asynchronous dispatch hides its
  cost.
- `gemm`, where JAX has accelerators alone: int8 matrix units with int32 sums, exact whatever the number of models.
"""

from functools import partial
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int8, Int32, UInt32, UInt64

from jaxinfl import native
from jaxinfl.arguments import check_choice
from jaxinfl.influence.place import in_place, platform, put
from jaxinfl.undefined import nan_is_an_answer

Kernel = Literal["native", "bits", "gemm"]
Method = Literal["auto", "native", "bits", "gemm"]

# Examples packed along the model axis, in chunks of it: uint64 [words, examples] for bits, int8 [models, examples] for
# gemm; native takes bool [models, examples] as it is. The dtype says which kernel a chunk is for.
Chunk = UInt64[Array, "_ _"] | Int8[Array, "_ _"] | Bool[Array, "_ _"]
Packed = tuple[Chunk, ...]

# Words summed in one fused loop. The words of all test examples are read again for each row, so they had better stay in
# cache: 782 words (50,000 models) in one loop ran 3.5 times slower per word than 32, and took 3 s to compile.
_WORDS_PER_CHUNK = 64

# Triples of a model and two examples from which on the hand-written kernel is compiled if it is not there yet: that takes
# some seconds, once a machine. Smaller products take milliseconds by bits.
_WORTH_COMPILING = 1e10


def choose_kernel(method: Method, models: int, train: int, test: int) -> Kernel:
    """The kernel for so many models, training and test examples where influence is computed.

    Raises:
      ValueError: `method` is unknown, or "native" where JAX has no CPU.
    """
    check_choice(method, "method", get_args(Method))
    if method == "native" and platform() != "cpu":
        raise ValueError(f"method is 'native', which runs on CPUs; JAX has {platform()} alone: take 'auto'.")
    if method != "auto":
        return method
    if platform() != "cpu":
        return "gemm"
    large = models * train * test >= _WORTH_COMPILING
    return "native" if large and native.why_unavailable() is None else "bits"


def count_flags(flags: Bool[np.ndarray, "models examples"]) -> Int32[Array, " examples"]:
    """Number of models by which each example is flagged; 15 times as fast as `jnp.sum`, which XLA:CPU does not vectorize."""
    return pack_models(flags, choose_kernel("auto", len(flags), flags.shape[1], 1))[1]


def pack_models(flags: Bool[np.ndarray, "models examples"], kernel: Kernel) -> tuple[Packed, Int32[Array, " examples"]]:
    """Flags ready for the kernel, and the number of models by which each example is flagged.

    It is done once for all tiles: `tile_of` cuts rows from the result.
    """
    if kernel == "gemm":
        with in_place():
            packed, totals = _pack_bytes(flags)
        return packed, totals
    if kernel == "native":
        whole = put(flags)
        with in_place():
            return (whole,), native.joint_counts(jnp.ones((len(flags), 1), bool), whole)[0]
    words = -(-len(flags) // 64)
    num_chunks = -(-words // _WORDS_PER_CHUNK)
    packed, totals = call_with_64_bits(_pack_bits, flags, num_chunks=num_chunks, words=-(-words // num_chunks))
    return packed, totals


def call_with_64_bits(kernel: Any, *args: Any, **kwargs: Any) -> Any:
    """Call a jitted `kernel` where influence is computed, with 64-bit types on for the call: it reads packed words, or float64.

    JAX has them off by default, and they are worth it: uint32 words cost 1.4 times the time under AVX2, which counts
    bits in 64-bit lanes.
    """
    with jax.enable_x64(True), nan_is_an_answer(), in_place():
        return kernel(*args, **kwargs)


def tile_of(chunk: Chunk, start: Int32[Array, ""], rows: int) -> Chunk:
    """Columns `start` to `start + rows` of one chunk."""
    return jax.lax.dynamic_slice_in_dim(chunk, start, rows, axis=1)


def leading_counts(
    train: Packed, test: Packed, start: int = 0, rows: int | None = None
) -> Int32[Array, "rows test"] | None:
    """Counts over every chunk but the last, or None where there is only one.

    The last chunk is left to the caller's own kernel, which fuses it with what it computes from the counts.
    """
    counts = None
    for train_chunk, test_chunk in zip(train[:-1], test[:-1], strict=True):
        counts = call_with_64_bits(
            add_chunk, counts, train_chunk, test_chunk, np.int32(start), rows=rows or train_chunk.shape[1]
        )
    return counts


def add_counts(counts: Int32[Array, "rows test"] | None, train: Chunk, test: Chunk) -> Int32[Array, "rows test"]:
    """Counts over one chunk of models, added to `counts` of the models before it where there are any."""
    kernels: dict[Any, Any] = {jnp.int8: _count_bytes, jnp.uint64: _count_bits, jnp.bool_: native.joint_counts}
    added = kernels[train.dtype.type](train, test)
    return added if counts is None else counts + added


add_last_chunk = jax.jit(add_counts)


@partial(jax.jit, static_argnames="rows")
def add_chunk(
    counts: Int32[Array, "rows test"] | None, train: Chunk, test: Chunk, start: Int32[Array, ""], *, rows: int
) -> Int32[Array, "rows test"]:
    """`add_counts` for the training examples `start` to `start + rows`."""
    return add_counts(counts, tile_of(train, start, rows), test)


def _count_bits(train: UInt64[Array, "words rows"], test: UInt64[Array, "words test"]) -> Int32[Array, "rows test"]:
    def common(word: int) -> UInt64[Array, "rows test"]:
        return jax.lax.population_count(train[word][:, None] & test[word][None, :])

    # Written out: `jnp.sum(..., axis=0)` is a reduction, which XLA:CPU does not vectorize.
    counts = common(0)
    for word in range(1, len(train)):
        counts = counts + common(word)
    return counts.astype(jnp.int32)


def _count_bytes(train: Int8[Array, "models rows"], test: Int8[Array, "models test"]) -> Int32[Array, "rows test"]:
    # int8 rather than bf16 with float32 sums: exact by definition, not by how a matrix unit happens to accumulate.
    over_models = (((0,), (0,)), ((), ()))
    return jax.lax.dot_general(train, test, over_models, preferred_element_type=jnp.int32)


@partial(jax.jit, static_argnames=("num_chunks", "words"))
def _pack_bits(
    flags: Bool[Array, "models examples"], *, num_chunks: int, words: int
) -> tuple[Packed, Int32[Array, " examples"]]:
    models, examples = flags.shape
    padded = jnp.pad(flags, ((0, num_chunks * words * 64 - models), (0, 0)))
    bits = padded.reshape(num_chunks * words * 2, 32, examples).astype(jnp.uint32)
    shifts = jnp.arange(32, dtype=jnp.uint32)[None, :, None]
    # First 32 bits, then pairs: shifting and adding uint64 from the start takes 10 times as long.
    halves: UInt32[Array, "halves examples"] = jnp.sum(bits << shifts, axis=1, dtype=jnp.uint32)
    totals = jnp.sum(jax.lax.population_count(halves), axis=0, dtype=jnp.uint32).astype(jnp.int32)
    low, high = halves[0::2].astype(jnp.uint64), halves[1::2].astype(jnp.uint64)
    packed = (low | (high << jnp.uint64(32))).reshape(num_chunks, words, examples)
    return tuple(packed[chunk] for chunk in range(num_chunks)), totals


@jax.jit
def _pack_bytes(flags: Bool[Array, "models examples"]) -> tuple[Packed, Int32[Array, " examples"]]:
    return (flags.astype(jnp.int8),), jnp.sum(flags, axis=0, dtype=jnp.int32)
