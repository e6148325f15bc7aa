"""What a user's model is checked for when it is built."""

import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxinfl.models import REGISTRY, as_spec
from jaxinfl.models.checks import check_examples_apart, check_weights_follow_key
from jaxinfl.models.from_nnx import assemble
from tests.own_models import CLASSES, Dense, Plain, build, dense, logits

COUPLED = {
    "mean over the batch": lambda self, x: x - x.mean(0, keepdims=True),
    "behind a gate that is 0 at first": lambda self, x: x + self.gate[...] * x.sum(0, keepdims=True),
    "softmax over the batch": lambda self, x: nnx.softmax(x, axis=0),
    "sorted over the batch": lambda self, x: jnp.sort(x, axis=0),
    "the batch moved by one": lambda self, x: x + jnp.roll(x, 1, axis=0),
    "similarity to the others": lambda self, x: nnx.softmax(x @ x.T) @ x,
    "scanned with a carry": lambda self, x: jax.lax.scan(lambda c, row: (c + row, c + row), jnp.zeros(8), x)[1],
    "batch statistics by hand": lambda self, x: (x - x.mean(0, keepdims=True)) / x.std(0, keepdims=True),
    "median of the batch": lambda self, x: x - jnp.median(x, axis=0, keepdims=True),
}


@pytest.mark.parametrize("between", COUPLED.values(), ids=COUPLED)
def test_coupled_examples_are_refused(between):
    with pytest.raises(
        ValueError, match=r"in evaluation the outputs .* meet at .* test_model_checks.py, line .*coupled_examples"
    ):
        build(dense(between))
    model = build(dense(between), allow=("coupled_examples",))
    assert logits(model, train=False).shape == (4, CLASSES)


def test_training_alone_is_looked_at():
    class OwnNorm(Dense):
        training = True

        def between(self, x):
            return x - x.mean(0, keepdims=True) if self.training else x

    with pytest.raises(ValueError, match="in training the outputs for one example change by up to"):
        build(OwnNorm)


def test_fixed_flag_is_refused():
    class Fixed(Plain):
        def __call__(self, images):
            return self.forward(images, True)

    with pytest.raises(ValueError, match=r"in evaluation .*an excluded example.*do not fix a flag"):
        build(Fixed)


APART = {
    "attention within an example": lambda self, x: nnx.softmax(x[:, :, None] * x[:, None, :]) @ x[:, :, None],
    "one position of each, by number": lambda self, x: (
        x[jnp.arange(len(x)), jnp.argmax(x, 1)][:, None] * jnp.ones((1, 8))
    ),
    "vmap": lambda self, x: jax.vmap(lambda row: row - row.mean())(x),
    "a map over the batch": lambda self, x: jax.lax.map(lambda row: row - row.mean(), x),
    "sorted features": lambda self, x: jnp.sort(x, axis=1)[:, ::-1].cumsum(1),
    "largest features": lambda self, x: jnp.tile(jax.lax.top_k(x, 2)[0], 4),
    "a convolution in groups": lambda self, x: nnx.relu(
        jax.lax.conv_general_dilated(
            x.reshape(-1, 4, 2), jnp.ones((3, 1, 2)), (1,), "SAME", None, (2,), ("NWC", "WIO", "NWC"), 2
        )
    ).reshape(x.shape),
    "a loop of unknown length": lambda self, x: jax.lax.stop_gradient(
        jax.lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, c[1] * 1.5), (0, x))[1]
    ),
    "padding, cutting, writing": lambda self, x: jnp.pad(x, ((0, 0), (1, 2)))[:, 1:9].at[:, 0].set(0).at[:, 2:4].add(1),
    "a stack of matrices": lambda self, x: jnp.linalg.cholesky(jnp.eye(8)[None] + x[:, :, None] * x[:, None, :])[:, -1],
    "frequencies": lambda self, x: jnp.fft.fft(x).real,
}


@pytest.mark.parametrize("between", APART.values(), ids=APART)
def test_examples_by_themselves_are_let_in(between, caplog):
    def forward(self, x):
        return between(self, x).reshape(len(x), -1)[:, :8]

    build(dense(forward))
    assert not caplog.records


@pytest.mark.parametrize("name", ["mlp", "small_cnn", "small_inception", "resnet9", "resnet18_cifar"])
def test_registered_models_pass(name, caplog):
    shape = (32, 32, 3)
    built = assemble(lambda rngs: REGISTRY[name](shape, CLASSES, rngs=rngs), name, as_spec(shape))
    check_weights_follow_key(built.traces.init, built.variables, name, one_module=False)
    check_examples_apart(built.model.apply, built.variables, as_spec(shape), name, has_dropout=False)
    assert not caplog.records


@pytest.mark.parametrize(
    ("between", "attributes", "word"),
    [
        (lambda self, x: x + jax.random.normal(jax.random.key(0), x.shape), {}, "from a fixed key"),
        (lambda self, x: nnx.Dropout(0.5)(x, deterministic=True), {}, None),
    ],
)
def test_random_numbers_of_the_forward_pass(between, attributes, word, caplog):
    build(dense(between, **attributes))
    assert [word in record.getMessage() for record in caplog.records] == ([True] if word else [])


@pytest.mark.parametrize(
    ("forward", "words"),
    [
        (lambda self, images: self.forward(images, False), ["dropout that never acts", "batch norm that never learns"]),
        (
            lambda self, images: self.last(
                self.dropout(self.first(images.reshape(len(images), -1)), deterministic=False)
            ),
            ["random numbers in evaluation", "batch norm that never learns"],
        ),
    ],
)
def test_layers_without_effect_are_told(forward, words, caplog):
    build(type("Own", (Plain,), {"__call__": forward}))
    messages = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(messages) == len(words)
    assert all(word in message for word, message in zip(words, messages, strict=True))


def test_own_statistics_are_told(caplog):
    class Own(Dense):
        def __init__(self, rngs):
            super().__init__(rngs)
            self.mean = nnx.BatchStat(jnp.zeros(8))

        def between(self, x):
            self.mean.set_value(0.9 * self.mean[...] + 0.1 * x.mean(0))
            return x

    build(Own)
    assert "count the copies that fill up the last batch" in caplog.text


class FromFixedKey(nnx.Module):
    def __init__(self, rngs):
        self.last = nnx.Linear(64, CLASSES, rngs=nnx.Rngs(0))

    def __call__(self, images):
        return self.last(images.reshape(len(images), -1))


class PartlyFromFixedKey(FromFixedKey):
    def __init__(self, rngs):
        self.first = nnx.Linear(64, 64, rngs=rngs)
        super().__init__(rngs)

    def __call__(self, images):
        return super().__call__(self.first(images.reshape(len(images), -1)))


@pytest.mark.parametrize("kind", [FromFixedKey, PartlyFromFixedKey])
def test_weights_from_a_fixed_key_are_refused(kind):
    with pytest.raises(ValueError, match=r"last\.kernel is drawn from a fixed key.*rngs=rngs.*same_weights"):
        build(kind)
    model = build(kind, allow=("same_weights",))
    one, other = (model.init(jax.random.key(seed)).params["last"]["kernel"] for seed in (0, 1))
    np.testing.assert_array_equal(one, other)


class FromNumpy(FromFixedKey):
    def __init__(self, rngs):
        super().__init__(rngs)
        self.last.kernel = nnx.Param(jnp.asarray(np.random.randn(64, CLASSES), jnp.float32))


class NumpyNoise(Dense):
    def between(self, x):
        return x * np.random.rand(1, 8).astype(np.float32)


@pytest.mark.parametrize(
    ("kind", "what"), [(FromNumpy, "start from other weights"), (NumpyNoise, "compute something else in training")]
)
def test_other_sources_of_randomness_are_refused(kind, what):
    with pytest.raises(ValueError, match=rf"built twice from one key, and the two {what}.*np\.random"):
        build(kind, allow=("same_weights",))


WEIGHTS = np.random.default_rng(0).normal(size=(64, CLASSES)).astype(np.float32)


class Loaded(FromFixedKey):
    def __init__(self, rngs):
        self.last = nnx.Linear(64, CLASSES, rngs=rngs)
        self.last.kernel = nnx.Param(jnp.asarray(WEIGHTS))


class Constant(FromFixedKey):
    def __init__(self, rngs):
        self.last = nnx.Linear(64, CLASSES, kernel_init=nnx.initializers.zeros, rngs=rngs)


def test_constants_and_loaded_weights_are_let_in():
    np.testing.assert_array_equal(build(Loaded).init(jax.random.key(5)).params["last"]["kernel"], WEIGHTS)
    assert not build(Constant).init(jax.random.key(5)).params["last"]["kernel"].any()


def test_module_made_before_is_refused_unless_allowed():
    before = Dense(nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"one and the same module at every call.*same_weights"):
        build(lambda rngs: before)
    model = build(lambda rngs: before, allow=("same_weights",))
    kernel = model.init(jax.random.key(5)).params["first"]["kernel"]
    np.testing.assert_array_equal(kernel, before.first.kernel[...])
    assert type(before.first) is nnx.Linear
    assert before.first.dot_general is jax.lax.dot_general, "the caller's own module was changed"


def test_part_made_before_is_let_in():
    before = Dense(nnx.Rngs(0))

    class Tuned(nnx.Module):
        def __init__(self, rngs):
            self.before, self.head = before, nnx.Linear(CLASSES, CLASSES, rngs=rngs)

        def __call__(self, images):
            return self.head(self.before(images))

    params = build(Tuned).init(jax.random.key(5)).params
    np.testing.assert_array_equal(params["before"]["first"]["kernel"], before.first.kernel[...])


def test_another_stream_of_keys_is_refused():
    outside = nnx.Rngs(0)
    with pytest.raises(ValueError, match=r"changes something that was made before.*Draw from its own `rngs`"):
        build(lambda rngs: Dense(outside))


@pytest.mark.parametrize(("allow", "error"), [("same_weights", TypeError), (("weights",), ValueError), (3, TypeError)])
def test_unknown_permissions_are_refused(allow, error):
    with pytest.raises(error, match=r"allow.*it takes"):
        build(Dense, allow=allow)
