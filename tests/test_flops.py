"""FLOPs counted from shapes, against sums by hand and XLA's own count on a processor."""

import jax
import jax.numpy as jnp
import pytest

from jaxinfl.models import InputSpec, build_model
from jaxinfl.models.flops import count_flops
from jaxinfl.training.machine import forward_flops


def count(function, *arguments):
    return count_flops(jax.make_jaxpr(function)(*arguments).jaxpr)


def test_products_and_convolutions_by_hand():
    assert count(jnp.matmul, jnp.ones((5, 7)), jnp.ones((7, 3))) == 2 * 5 * 7 * 3
    convolution = jax.lax.conv_general_dilated
    # A padded border counts: 8 by 8 outputs, each of 3 by 3 by 4 products, in 6 channels; with two groups half of them.
    for groups in (1, 2):
        kernel = jnp.ones((6, 4 // groups, 3, 3))
        counted = count(
            lambda x, k=kernel, g=groups: convolution(x, k, (1, 1), "SAME", feature_group_count=g),
            jnp.ones((2, 4, 8, 8)),
        )
        assert counted == 2 * 2 * 6 * 64 * 9 * 4 // groups


def test_loops_count_their_turns_and_branches_their_dearest_side():
    x = jnp.ones((4, 4))
    assert count(lambda x: jax.lax.scan(lambda c, _: (c @ c, None), x, None, length=7)[0], x) == 7 * 2 * 4**3
    assert count(jax.jit(lambda x: x @ x), x) == 2 * 4**3
    assert count(lambda p, x: jax.lax.cond(p, lambda: x @ x @ x, lambda: x), True, x) - 4 * 4**3 in range(3)


def test_moves_cost_nothing_and_sums_what_they_read():
    x = jnp.ones((4, 6))
    assert count(lambda x: x.T.reshape(8, 3)[::2], x) == 0
    assert count(lambda x: x.sum(), x) == 24


@pytest.mark.parametrize(
    ("name", "shape"), [("small_mlp", (8, 8, 1)), ("small_cnn", (8, 8, 1)), ("transformer", (16, 5))]
)
def test_networks_as_xla_counts_them(name, shape):
    model = build_model(name, inputs=shape, outputs=10)
    variables = jax.eval_shape(model.init, jax.random.key(0))
    batch = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    counted = jax.jit(lambda v, x: model.apply(v, x, train=False)[0]).lower(variables, batch).cost_analysis()
    assert forward_flops(model, InputSpec.of_shape(shape)) == pytest.approx(counted["flops"], rel=0.01)
