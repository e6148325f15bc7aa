"""The sources that are read from a program cover every input on which a number really depends."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinfl.models.dependence import trace_dependence
from jaxinfl.models.dependence_rules import FIRST_EXAMPLE, SECOND_EXAMPLE
from tests.compile_whole import compile_whole

FUNCTIONS = {
    "elementwise": lambda x: jnp.where(x > 0, jnp.exp(x), jnp.clip(x, -1, 1)) ** 2,
    "transposed and reversed": lambda x: x.T[::-1].reshape(3, 8)[:, ::2],
    "cut and padded": lambda x: jnp.pad(x[:, 1:5:2], ((1, 0), (2, 1)), constant_values=3.0),
    "negative padding": lambda x: jax.lax.pad(x, jnp.float32(0), ((-1, 2, 1), (1, -2, 0))),
    "joined and split": lambda x: jnp.stack(jnp.split(jnp.concatenate([x, x[::-1]], axis=1), 4, axis=1)),
    "reductions": lambda x: (
        x.sum(0)[None] + x.max() + jnp.argmax(x, 1).astype(jnp.float32)[:, None] @ jnp.ones((1, 12))
    ),
    "cumulative": lambda x: jnp.cumsum(x, axis=1) + jnp.cumprod(x, axis=0),
    "sorted": lambda x: jnp.sort(x, axis=0) + jnp.sort(x, axis=1),
    "matrix products": lambda x: jnp.einsum("bi,bj->bij", x, x) @ x.T,
    "gathered": lambda x: x[jnp.array([1, 0, 1])][:, jnp.array([3, 2])],
    "gathered by values": lambda x: x[jnp.argmax(x, 0) % 2, jnp.arange(12)],
    "scattered": lambda x: jnp.zeros((2, 12)).at[jnp.array([1, 0]), 2:5].set(x[:, :3]).at[0].add(x[1]),
    "cut where values say": lambda x: jax.lax.dynamic_slice(x, (0, jnp.int32(x[0, 0] > 0)), (2, 4)),
    "written where values say": lambda x: jax.lax.dynamic_update_slice(x, x[1:, :3], (jnp.int32(x[0, 0] > 0), 2)),
    "convolution": lambda x: jax.lax.conv_general_dilated(
        x.reshape(2, 6, 2), jnp.ones((3, 2, 4)), (1,), "SAME", None, None, ("NWC", "WIO", "NWC")
    ),
    "convolution with weights from an example": lambda x: jax.lax.conv_general_dilated(
        x.reshape(2, 12, 1), x[1].reshape(3, 1, 4), (2,), "VALID", None, None, ("NWC", "WIO", "NWC")
    ),
    "convolution over the batch": lambda x: jax.lax.conv_general_dilated(
        x[None, :, :4], jnp.ones((2, 4, 3)), (1,), "SAME", None, None, ("NWC", "WIO", "NWC")
    ),
    "convolution in groups": lambda x: jax.lax.conv_general_dilated(
        x.T.reshape(1, 12, 2), jnp.ones((3, 1, 4)), (1,), "SAME", None, None, ("NWC", "WIO", "NWC"), 2
    ),
    "windows": lambda x: jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 3), (1, 2), "SAME"),
    "windows over the batch": lambda x: jax.lax.reduce_window(x, 0.0, jax.lax.add, (2, 1), (1, 1), "SAME"),
    "scan": lambda x: jax.lax.scan(lambda c, row: (c + row, c * row), jnp.ones(12), x),
    "reversed scan": lambda x: jax.lax.scan(lambda c, row: (c + row, c * row), jnp.ones(12), x, reverse=True),
    "long scan": lambda x: jax.lax.scan(lambda c, _: (c + x[0].sum(), c * x[1].sum()), jnp.ones(()), None, length=100),
    "while": lambda x: jax.lax.while_loop(lambda c: c.sum() < 50, lambda c: jnp.abs(c) * 1.5 + 1, x),
    "cond": lambda x: jax.lax.cond(x[0, 0] > 0, lambda row: row, lambda row: -row, x[1]),
    "jit and checkpoint": lambda x: jax.checkpoint(jax.jit(lambda y: y - y.mean(0, keepdims=True)))(x),
    "own gradient": lambda x: jax.nn.relu(x) + jax.nn.logsumexp(x, axis=1, keepdims=True),
    "gradient": jax.grad(lambda x: (jnp.tanh(x) * x.sum(1, keepdims=True)).sum()),
    "vmap": jax.vmap(lambda row: row[jnp.argsort(row)] * row.max()),
    "linear algebra": lambda x: jnp.linalg.inv(jnp.eye(3)[None] * 5 + x.reshape(2, 6, 2)[:, :3, :1]),
    "frequencies": lambda x: jnp.abs(jnp.fft.rfft(x, axis=1)),
    "largest": lambda x: jax.lax.top_k(x, 3),
    "unknown operation": lambda x: jax.pure_callback(
        lambda y: np.asarray(y)[::-1], jax.ShapeDtypeStruct((2, 12), np.float32), x
    ),
}


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_no_dependence_is_missed(function):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 12)).astype(np.float32)
    sources = np.array([[FIRST_EXAMPLE], [SECOND_EXAMPLE]], np.uint8) * np.ones((1, 12), np.uint8)
    found = trace_dependence(jax.make_jaxpr(function)(x), [sources]).outputs
    computed = compile_whole(function)
    before = jax.tree.leaves(computed(x))
    assert [each.shape for each in found] == [each.shape for each in before]
    for row, source in enumerate((FIRST_EXAMPLE, SECOND_EXAMPLE)):
        for _ in range(5):
            changed = x.copy()
            changed[row] = rng.normal(size=12) * rng.choice([0.5, 3])
            for each, old, new in zip(found, before, jax.tree.leaves(computed(changed)), strict=True):
                moved = np.asarray(old) != np.asarray(new)
                assert ((each & source)[moved] == source).all()


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: x * 2, [[1] * 3, [2] * 3]),
        (lambda x: x.sum(0), [3, 3, 3]),
        (lambda x: x[::-1], [[2] * 3, [1] * 3]),
        (lambda x: x.at[0].set(0), [[1] * 3, [2] * 3]),
        (lambda x: jnp.zeros(3), [0, 0, 0]),
    ],
)
def test_sources_of_simple_functions(function, expected):
    sources = np.array([[1] * 3, [2] * 3], np.uint8)
    (found,) = trace_dependence(jax.make_jaxpr(function)(jnp.ones((2, 3))), [sources]).outputs
    np.testing.assert_array_equal(found, expected)
