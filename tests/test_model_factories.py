"""What may be given as a model, and what a module may hold."""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

from jaxinfl.models import build_model
from tests.own_models import CLASSES, SHAPE, Dense, build, dense, logits


class KeywordOnly(Dense):
    def __init__(self, *, rngs):
        super().__init__(rngs)


class WithWidth(Dense):
    def __init__(self, width=8, *, rngs):
        super().__init__(rngs)


class WithDepth(Dense):
    """A partial of it may leave a parameter out behind the one that it fills in."""

    def __init__(self, rngs, width, depth=2):
        super().__init__(rngs)


class WithoutDefault(Dense):
    def __init__(self, width, *, rngs):
        super().__init__(rngs)


@pytest.mark.parametrize(
    "factory",
    [
        KeywordOnly,
        WithWidth,
        functools.partial(WithoutDefault, 8),
        functools.partial(WithoutDefault, width=8),
        functools.partial(WithDepth, width=8),
    ],
)
def test_rngs_by_keyword_is_taken(factory):
    expected = build(Dense).init(jax.random.key(3)).params["first"]["kernel"]
    np.testing.assert_array_equal(build(factory).init(jax.random.key(3)).params["first"]["kernel"], expected)


class LinenNet(linen.Module):
    @linen.compact
    def __call__(self, images):
        return linen.Dense(CLASSES)(images.reshape(len(images), -1))


@pytest.mark.parametrize(
    ("model", "match"),
    [
        (
            Dense(nnx.Rngs(0)),
            r"instance of Dense.*the class, model=Dense, or `lambda rngs: Dense\(\.\.\., rngs=rngs\)`",
        ),
        (nnx.Linear(3, 3, rngs=nnx.Rngs(0)), "instance of Linear"),
        (
            WithoutDefault,
            r"WithoutDefault cannot be called with one argument, `rngs` \(missing a required argument: 'width'\)",
        ),
        (nnx.Linear, "missing a required argument: 'in_features'"),
        (LinenNet, r"the class LinenNet of Flax Linen.*model=LinenNet\(\.\.\.\)"),
        (lambda: None, r"cannot be called with one argument, `rngs`"),
        (7, "model is 7"),
    ],
)
def test_what_is_no_factory_is_told(model, match):
    with pytest.raises(TypeError, match=match):
        build_model(model, inputs=SHAPE, outputs=CLASSES)


def test_a_module_converted_by_flax_works():
    def factory(rngs):
        return nnx.bridge.ToNNX(LinenNet(), rngs=rngs).lazy_init(jnp.zeros((1, *SHAPE)))

    model = build(factory)
    assert logits(model, train=True).shape == (4, CLASSES)
    kernels = [jax.tree.leaves(model.init(jax.random.key(seed)).params)[1] for seed in (0, 1)]
    assert (kernels[0] != kernels[1]).all()


def stacked(drop):
    class Block(nnx.Module):
        def __init__(self, rngs):
            self.linear, self.dropout = nnx.Linear(8, 8, rngs=rngs), nnx.Dropout(drop, rngs=rngs)

        def __call__(self, x):
            return self.dropout(nnx.relu(self.linear(x)))

    class Stacked(Dense):
        def __init__(self, rngs):
            super().__init__(rngs)
            self.blocks = nnx.split_rngs(splits=3)(nnx.vmap(Block, in_axes=0, out_axes=0))(rngs)

        def between(self, x):
            return nnx.scan(lambda block, x: block(x), in_axes=(0, nnx.Carry), out_axes=nnx.Carry)(self.blocks, x)

    return Stacked


def test_stacked_layers_draw_their_own_dropout():
    model = build(stacked(0.5))
    assert (logits(model, train=True) != logits(model, train=True, key=1)).any()
    np.testing.assert_array_equal(logits(model, train=False), logits(build(stacked(0.0)), train=True))


def test_split_streams_draw_different_numbers():
    class Forked(Dense):
        def __init__(self, rngs):
            super().__init__(rngs)
            self.streams = rngs.params.split(3)

        def between(self, x):
            drawn = nnx.vmap(lambda stream: jax.random.normal(stream(), x.shape), in_axes=0)(self.streams)
            return jnp.where(jnp.std(drawn, axis=0) > 0, x, jnp.nan)

    model = build(Forked)
    assert np.isfinite(logits(model, train=True)).all(), "two layers of a stack share a key"


def test_sown_values_are_dropped():
    def between(self, x):
        self.sow(nnx.Intermediate, "hidden", x)
        return nnx.relu(self.perturb("shift", x))

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="\\s*Using 'Module", category=DeprecationWarning)
        model = build(dense(between))
        np.testing.assert_array_equal(logits(model, train=True), logits(build(Dense), train=True))
    assert model.init(jax.random.key(0)).stats == {}


class KeyInVariable(Dense):
    def __init__(self, rngs):
        super().__init__(rngs)
        self.noise = nnx.Variable(jax.random.key(7))


class TextInVariable(Dense):
    def __init__(self, rngs):
        super().__init__(rngs)
        self.note = nnx.Variable("hello")


class AddsVariable(Dense):
    def between(self, x):
        self.seen = nnx.Variable(x)
        return x


class ReshapesVariable(Dense):
    def __init__(self, rngs):
        super().__init__(rngs)
        self.seen = nnx.Variable(jnp.zeros(8))

    def between(self, x):
        self.seen.set_value(self.seen[...][:4])
        return x


@pytest.mark.parametrize(
    ("kind", "error", "match"),
    [
        (KeyInVariable, TypeError, r"noise is a random key in a variable.*rngs\.fork\(\)"),
        (TextInVariable, TypeError, "note is a variable that holds 'hello'"),
        (AddsVariable, ValueError, "adds the variable seen"),
        (ReshapesVariable, ValueError, r"gives the variable seen the shape \(4,\) in place of \(8,\)"),
    ],
)
def test_what_cannot_be_kept_is_refused_at_once(kind, error, match):
    with pytest.raises(error, match=match):
        build(kind)


def test_advice_for_a_key_works(caplog):
    class Stream(Dense):
        def __init__(self, rngs):
            super().__init__(rngs)
            self.noise = rngs.fork()

        def between(self, x):
            return x + jax.random.normal(self.noise(), x.shape)

    model = build(Stream)
    assert (logits(model, train=True) != logits(model, train=True, key=1)).any()
    assert "random numbers in evaluation" in caplog.text
