"""One model: what it reads, in which order, and what it says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxinfl import Recipe, native
from jaxinfl.models import Variables, WithAuxiliary, build_model
from jaxinfl.models.layers import use_kernels
from jaxinfl.tasks import margin
from jaxinfl.training import step
from jaxinfl.training.inputs import DeviceData
from jaxinfl.training.loop import make_segment
from tests import reference
from tests.compile_whole import compile_whole

MARGIN = compile_whole(margin)
KEYS = step.Keys(*jax.random.split(jax.random.key(0), 3))


def seen_by(mask, batch_size, epochs, monkeypatch):
    """How often each example is counted, and how often it is read at all."""
    num_train = len(mask)

    def count(training, data, state, index, counted, key, rate, layouts):
        params = state.variables.params
        tally = {
            "counted": params["counted"].at[index].add((jnp.arange(len(index)) < counted).astype(jnp.int32)),
            "read": params["read"].at[index].add(1),
        }
        return state._replace(variables=Variables(tally, ()))

    monkeypatch.setattr(step, "_update", count)
    zeros = {name: jnp.zeros(num_train, jnp.int32) for name in ("counted", "read")}
    blank = jnp.zeros(1)
    model = build_model("mlp", inputs=(1, 1, 1), outputs=2)
    data = DeviceData(
        jnp.zeros((num_train, 1, 1, 1), jnp.uint8), jnp.zeros(num_train, jnp.int32), *jnp.zeros((2, num_train, 1))
    )
    state = step.State(Variables(zeros, ()), (), blank, blank, jnp.float32(0))
    recipe = Recipe(batch_size=batch_size, epochs=max(epochs, 1), schedule="constant")
    state = step.advance(step.Training(model, recipe), data, state, jnp.asarray(mask), KEYS, make_segment(0, epochs))
    return state.variables.params


@pytest.mark.parametrize("batch_size", [1, 4, 7, 30, 64])
@pytest.mark.parametrize("size", [1, 7, 8, 29, 30])
def test_every_included_example_is_seen_exactly_once_an_epoch(size, batch_size, monkeypatch):
    """Rule 2, the last partial batch too; and an excluded example is never even read (rule 1)."""
    mask = np.random.default_rng(size).permutation(30) < size
    tally = seen_by(mask, batch_size, 3, monkeypatch)
    np.testing.assert_array_equal(tally["counted"], 3 * mask)
    assert not np.asarray(tally["read"])[~mask].any()


def test_an_empty_subset_takes_no_step(monkeypatch):
    assert not np.asarray(seen_by(np.zeros(10, bool), 4, 2, monkeypatch)["read"]).any()


def test_order_is_random_and_shared_with_the_model_that_lacks_an_example():
    mask = np.ones(20, bool)
    order = np.asarray(step._epoch_order(jax.random.key(3), jnp.asarray(mask), 8))
    assert sorted(order[:20]) == list(range(20)) and list(order[:20]) != list(range(20))
    assert (order != np.asarray(step._epoch_order(jax.random.key(4), jnp.asarray(mask), 8))).any()
    without = step._epoch_order(jax.random.key(3), jnp.asarray(mask).at[5].set(False), 8)
    assert list(np.asarray(without)[:19]) == [i for i in order[:20] if i != 5]


@pytest.mark.skipif(native.why_unavailable() is not None, reason="it compares the native kernel")
def test_order_is_the_same_with_native_kernels():
    mask = jnp.arange(456) % 3 > 0
    orders = []
    for kernels in ("native", "gemm"):
        with use_kernels(kernels):
            orders.append(step._epoch_order(jax.random.key(3), mask, 64))
    np.testing.assert_array_equal(*orders)


def test_every_order_is_equally_likely():
    keys = jax.random.split(jax.random.key(0), 6000)
    orders = compile_whole(jax.vmap(lambda key: step._epoch_order(key, jnp.ones(3, bool), 3)))(keys)
    counts = np.unique(np.asarray(orders), axis=0, return_counts=True)[1]
    assert len(counts) == 6
    assert np.abs(counts / 6000 - 1 / 6).max() < 5 * np.sqrt(5 / 36 / 6000)


@given(st.integers(2, 6), st.floats(0.1, 300), st.integers(0, 1000))
@settings(max_examples=50, deadline=None)
def test_margin_equals_its_definition(classes, scale, seed):
    rng = np.random.default_rng(seed)
    logits = (rng.standard_normal((5, classes)) * scale).astype(np.float32)
    labels = rng.integers(0, classes, 5)
    got = MARGIN(jnp.asarray(logits), jnp.asarray(labels))
    expected = reference.margin(logits, labels)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-4 * max(1, scale / 10))


def test_margin_of_certainty_is_finite():
    got = MARGIN(jnp.array([[200.0, -200.0, 0.0]] * 2), jnp.array([0, 1]))
    np.testing.assert_allclose(got, [200, -400], rtol=1e-6)


def test_the_loss_counts_an_auxiliary_head_with_its_weight_and_no_padding():
    """The loss is the sum over counted examples of -log p_y of the logits, and 0.4 times that sum of the auxiliary logits."""
    rng = np.random.default_rng(0)
    logits, auxiliary = rng.standard_normal((2, 4, 3)).astype(np.float32)
    labels, counted = np.array([0, 2, 1, 1]), np.array([True, True, True, False])
    training = step.Training(build_model("mlp", inputs=(1, 1, 1), outputs=3), Recipe())

    def loss(logits, auxiliary):
        output = WithAuxiliary(jnp.asarray(logits), jnp.asarray(auxiliary))
        return float(step._total_loss(training, output, jnp.asarray(labels, jnp.int32), jnp.asarray(counted)))

    def by_hand(logits):
        shares = np.exp(logits.astype(float))
        return -np.log(shares[range(4), labels] / shares.sum(1))[:3].sum()

    assert loss(logits, auxiliary) == pytest.approx(by_hand(logits) + 0.4 * by_hand(auxiliary), rel=1e-5)
    padding = np.array([[0], [0], [0], [np.inf]], np.float32)
    assert loss(logits + padding, auxiliary + padding) == loss(logits, auxiliary)
