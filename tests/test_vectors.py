"""Parameters that are joined to vectors while they are trained: the same numbers in other places."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinfl.models import SmallCNN
from jaxinfl.models.layers import use_kernels
from jaxinfl.models.layers.norm import normalize
from jaxinfl.models.vectors import Layout
from jaxinfl.training import step
from jaxinfl.training.job import Job
from jaxinfl.training.loop import make_segment
from jaxinfl.training.machine import Machine, choose_execution
from jaxinfl.training.step import Chunk
from tests.compile_whole import compile_whole
from tests.kinds_of_data import KINDS
from tests.test_any_data import KEYS, MASKS

TREE = {
    "kernel": jnp.arange(3 * 2 * 4 * 5, dtype=jnp.float32).reshape(3, 2, 4, 5),
    "scale": jnp.arange(5, dtype=jnp.float32),
    "half": [jnp.arange(6, dtype=jnp.bfloat16).reshape(2, 3), jnp.float32(7)],
    "count": jnp.arange(2),
}


def test_a_tree_is_joined_and_split():
    layout = Layout.of(TREE)
    vectors = layout.join(TREE)
    assert {name: each.shape for name, each in vectors.items()} == {"float32": (126,), "bfloat16": (6,), "int32": (2,)}
    again = layout.split(vectors)
    assert jax.tree.structure(again) == jax.tree.structure(TREE)
    for mine, theirs in zip(jax.tree.leaves(again), jax.tree.leaves(TREE), strict=True):
        assert mine.dtype == theirs.dtype
        np.testing.assert_array_equal(np.asarray(mine, float), np.asarray(theirs, float))
    # A kernel lies in memory as cuDNN takes it: outputs first.
    start = 1  # behind the scalar of "half"
    np.testing.assert_array_equal(vectors["float32"][start : start + 24], TREE["kernel"][..., 0].reshape(-1))


def test_nothing_is_joined_to_nothing():
    layout = Layout.of(())
    assert layout.join(()) == {} and layout.split({}) == ()


def test_a_tree_of_other_parts_is_refused():
    with pytest.raises(ValueError, match="Dict key mismatch"):
        Layout.of(TREE).join({"kernel": TREE["kernel"]})


def with_batch_norm(rngs):
    return SmallCNN((8, 8, 1), 3, widths=(4, 4, 4), batch_norm=True, rngs=rngs)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("image", {}),
        ("image", {"momentum": 0.0, "weight_decay": 0.0}),
        ("dict", {"optimizer": "adamw"}),
        ("tokens", {"optimizer": "adamw"}),
        ("functions", {}),
        ("Linen", {}),
    ],
)
@jax.numpy_dtype_promotion("standard")  # optax's bias correction mixes an integer count with floats
def test_training_joined_variables_gives_the_same_model(name, changes):
    """The same sums and products up to rounding: the compiler may contract others of them."""
    kind = KINDS[name]
    recipe = dataclasses.replace(kind.recipe, nesterov=False, **changes)
    model = with_batch_norm if name == "image" else kind.model
    job = Job.make(MASKS[:1], KEYS[:1], kind.data, model, recipe)
    machine = Machine.for_job(job, choose_execution(job.model, recipe, job.data, kernels="gemm", num_devices=1))
    masks, keys = machine.programs.place(job.masks, job.keys)
    begun = machine.programs.start(machine.data, masks, keys, machine.programs.place_rows(job.given, np.zeros(1, int)))

    def train(joined):
        def one(data, state, mask, keys):
            chunk = Chunk(2, branches=False, joined=joined)
            return step.advance(job.training, data, state, mask, keys, make_segment(0, 2), chunk)

        state, mask, key = jax.tree.map(lambda each: jnp.asarray(each)[0], (begun, masks, keys))
        with use_kernels("gemm"):
            return compile_whole(one)(machine.data, state, mask, key)

    apart, joined = train(joined=False), train(joined=True)
    assert jax.tree.structure(apart) == jax.tree.structure(joined)
    moved = False
    for mine, theirs, first in zip(*map(jax.tree.leaves, (joined, apart, begun)), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-6)
        moved |= bool((np.asarray(theirs) != np.asarray(first)[0]).any())
    assert moved


@pytest.mark.parametrize("offset", [0.0, 1e3, -1e3])
def test_moments_in_one_pass_keep_their_digits_far_from_zero(offset):
    """Padding before the first counted example may be anything; the reference is float64."""
    x = offset + np.random.default_rng(0).standard_normal((16, 6, 5, 3)).astype(np.float32)
    counted = np.arange(16) % 3 != 0
    x[~counted] = 1e30
    kept = x[counted].astype(np.float64)
    arguments = jnp.asarray(x), jnp.asarray(counted), jnp.ones(3), jnp.zeros(3)
    _, mean, variance = compile_whole(lambda *a: normalize(*a, 1e-5, "together"))(*arguments)
    np.testing.assert_allclose(mean, kept.mean((0, 1, 2)), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(variance, kept.var((0, 1, 2)), rtol=2e-5)
