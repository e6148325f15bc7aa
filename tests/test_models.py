import dataclasses
import os
import pty
import subprocess
import sys
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxinfl.models import MLP, SmallCNN, Variables, WithAuxiliary, build_model, model_from_nnx
from jaxinfl.models.layers import use_kernels
from jaxinfl.models.layers.conv import conv_general_dilated
from tests import reference
from tests.compile_whole import compile_whole

SHAPE = (8, 8, 1)


NHWC = ("NHWC", "HWIO", "NHWC")


@given(
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(1, 3),
    st.sampled_from([(1, 1), (3, 3), (2, 3), (5, 1)]),
    st.sampled_from([(1, 1), (2, 2), (1, 2)]),
    st.sampled_from(["SAME", "VALID", ((1, 1), (1, 1)), ((0, 2), (1, 0))]),
)
@settings(max_examples=20, deadline=None)
def test_patches_equal_the_definition_forwards_and_backwards(height, width, channels, window, strides, padding):
    rng = np.random.default_rng(0)
    images, direction = rng.standard_normal((2, 2, height, width, channels)).astype(np.float32)
    kernel, kernel_direction = rng.standard_normal((2, *window, channels, 4)).astype(np.float32)
    sizes = zip((height, width), window, strides, strict=True)
    pairs = {"SAME": [reference.same_padding(*size) for size in sizes], "VALID": [(0, 0), (0, 0)]}.get(padding, padding)

    def convolve(images, kernel):
        return conv_general_dilated(images, kernel, strides, padding, dimension_numbers=NHWC)

    expected = reference.convolution(images, kernel, strides, pairs)
    if 0 in expected.shape:
        with pytest.raises(ValueError, match="does not fit"):
            convolve(jnp.asarray(images), jnp.asarray(kernel))
        return
    back = rng.standard_normal(expected.shape).astype(np.float32)

    @compile_whole
    def passes(images, kernel, back):
        result, pullback = jax.vjp(convolve, images, kernel)
        return result, *pullback(back)

    got, by_images, by_kernel = passes(*map(jnp.asarray, (images, kernel, back)))
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)
    # A convolution is linear in each argument: its derivative in a direction is the convolution of the direction.
    tolerance = {"rtol": 1e-3, "atol": 1e-2}
    along = np.sum(back * reference.convolution(direction, kernel, strides, pairs))
    np.testing.assert_allclose(np.sum(by_images * direction), along, **tolerance)
    along = np.sum(back * reference.convolution(images, kernel_direction, strides, pairs))
    np.testing.assert_allclose(np.sum(by_kernel * kernel_direction), along, **tolerance)


@pytest.mark.parametrize("stride", [1, 2])
def test_gemm_kernels_equal_xlas_convolution_and_its_gradients(stride):
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.standard_normal((2, 8, 8, 3)), jnp.float32)
    kernel = jnp.asarray(rng.standard_normal((3, 3, 3, 4)), jnp.float32)

    def loss(kernels, images, kernel):
        with use_kernels(kernels):
            out = conv_general_dilated(images, kernel, (stride, stride), "SAME", dimension_numbers=NHWC)
        return jnp.sum(jnp.sin(out))

    both = compile_whole(jax.value_and_grad(loss, (1, 2)), static_argnums=0)
    got, expected = (both(kernels, images, kernel) for kernels in ("gemm", "xla"))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), got, expected)


def test_what_a_gemm_does_not_cover_goes_to_xlas_convolution():
    images, kernel = jnp.ones((1, 6, 6, 4)), jnp.ones((3, 3, 2, 4))
    got = conv_general_dilated(images, kernel, (1, 1), "SAME", dimension_numbers=NHWC, feature_group_count=2)
    assert got.shape == (1, 6, 6, 4) and float(got[0, 3, 3, 0]) == 18


def test_unknown_kernels():
    with (
        pytest.raises(ValueError, match="kernels is 'fft'; it takes one of 'native', 'gemm', 'xla'"),
        use_kernels("fft"),
    ):
        pass


@pytest.mark.parametrize(
    ("name", "shape", "classes", "parameters"),
    [
        ("mlp", (28, 28, 1), 10, 784 * 512 + 512 + 512 * 256 + 256 + 256 * 10 + 10),
        ("small_cnn", (8, 8, 1), 10, 9 * (16 + 16 * 32 + 32 * 64) + 2 * (16 + 32 + 64) + 64 * 10 + 10),
        ("small_cnn", (32, 32, 3), 10, 9 * (3 * 32 + 32 * 64 + 64 * 128) + 2 * (32 + 64 + 128) + 128 * 10 + 10),
        ("small_inception", (32, 32, 3), 10, 1_895_786),
        ("small_inception", (32, 32, 3), 100, 1_926_116),
        ("resnet9", (32, 32, 3), 10, 2_274_880),
        ("resnet18_cifar", (32, 32, 3), 10, 11_173_962),
        ("resnet18_cifar", (32, 32, 3), 100, 11_220_132),
        ("resnet18", (224, 224, 3), 1000, 11_689_512),
        pytest.param("inception_v3", (299, 299, 3), 1000, 27_161_264, marks=pytest.mark.slow),
    ],
)
def test_parameter_counts(name, shape, classes, parameters):
    assert build_model(name, inputs=shape, outputs=classes).num_params == parameters


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("small_cnn", (7, 8, 1), "at least 8x8 pixels; these have 7x8"),
        ("small_inception", (8, 7, 3), "at least 8x8 pixels; these have 8x7"),
        ("resnet9", (10, 32, 3), "resnet9 takes images of at least 11x11 pixels; these have 10x32"),
        ("small_resnet9", (20, 32, 3), "resnet9 takes images of at least 21x21 pixels; these have 20x32"),
        ("resnet18_cifar", (7, 7, 3), "resnet18_cifar takes images of at least 8x8 pixels; these have 7x7"),
        (
            "resnet18",
            (31, 32, 3),
            "resnet18 takes images of at least 32x32 pixels; these have 31x32. Use resnet18_cifar",
        ),
        ("inception_v3", (299, 298, 3), "at least 299x299 pixels; these have 299x298. Resize them"),
    ],
)
def test_small_images_are_refused(name, shape, message):
    with pytest.raises(ValueError, match=message):
        build_model(name, inputs=shape, outputs=10)


class PlainNet(nnx.Module):
    """What a user might write: nothing of jaxinfl in it."""

    def __init__(self, rngs: nnx.Rngs):
        self.conv = nnx.Conv(1, 4, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.head = nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.norm(self.conv(x)))
        return self.head(self.drop(x.mean(axis=(1, 2))))


@pytest.fixture(scope="module")
def plain():
    return build_model(PlainNet, inputs=SHAPE, outputs=3)


@pytest.fixture(scope="module")
def plain_compiled(plain):
    """The plain model, with each call compiled whole."""
    apply = compile_whole(plain.apply, static_argnames="train")
    return dataclasses.replace(plain, init=compile_whole(plain.init), apply=apply)


def images(batch, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal((batch, *SHAPE)), jnp.float32)


def test_padding_changes_neither_logits_nor_statistics(plain_compiled):
    variables, key = plain_compiled.init(jax.random.key(0)), jax.random.key(1)
    alone, stats = plain_compiled.apply(variables, images(5), train=True, key=key)
    padded = jnp.concatenate([images(5), 1e6 * jnp.ones((3, *SHAPE))])
    mask = jnp.arange(8) < 5
    # Evaluation mode has no dropout, whose draws would depend on the batch's size.
    with_padding, padded_stats = plain_compiled.apply(variables, padded, train=True, mask=mask, key=key)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), stats, padded_stats)
    assert not np.allclose(padded_stats["norm"]["mean"], variables.stats["norm"]["mean"])
    assert with_padding.shape == (8, 3) and alone.shape == (5, 3)


def test_gradients_do_not_see_the_padding(plain, plain_compiled):
    variables = plain_compiled.init(jax.random.key(0))

    @compile_whole
    def gradient(batch, mask):
        def loss(params):
            logits, _ = plain.apply(
                Variables(params, variables.stats), batch, train=True, mask=mask, key=jax.random.key(1)
            )
            return jnp.sum(jnp.where(mask[:, None], logits**2, 0))

        return jax.grad(loss)(variables.params)

    mask = jnp.arange(8) < 5
    one, other = (gradient(jnp.concatenate([images(5), images(3, seed)]), mask) for seed in (1, 2))
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_dropout_follows_the_key_and_rests_in_evaluation(plain_compiled):
    variables = plain_compiled.init(jax.random.key(0))

    def logits(train, seed):
        return np.asarray(plain_compiled.apply(variables, images(4), train=train, key=jax.random.key(seed))[0])

    assert (logits(True, 1) == logits(True, 1)).all() and (logits(True, 1) != logits(True, 2)).any()
    assert (logits(False, 1) == logits(False, 2)).all()


class TwoHeads(PlainNet):
    """Auxiliary logits from the convolution alone, in training."""

    def __init__(self, rngs: nnx.Rngs, classes=3):
        super().__init__(rngs)
        self.auxiliary = nnx.Linear(4, classes, rngs=rngs)

    def __call__(self, x):
        logits = super().__call__(x)
        if self.drop.deterministic:
            return logits
        return logits, self.auxiliary(self.norm(self.conv(x)).mean(axis=(1, 2)))


class Sums(nnx.Module):
    """More heads than one may have."""

    def __call__(self, x):
        return (x.sum(axis=(1, 2)),) * 3


def test_an_auxiliary_head_speaks_in_training_alone():
    model = build_model(TwoHeads, inputs=SHAPE, outputs=3)
    variables = jax.eval_shape(model.init, jax.random.key(0))
    output, _ = jax.eval_shape(partial(model.apply, train=True), variables, images(4))
    assert isinstance(output, WithAuxiliary)
    assert output.logits.shape == output.auxiliary.shape == (4, 3)
    assert jax.eval_shape(partial(model.apply, train=False), variables, images(4))[0].shape == (4, 3)


def test_plain_modules_get_the_fast_convolution(plain):
    def traced(kernels):
        variables = plain.init(jax.random.key(0))
        with use_kernels(kernels):
            return str(jax.make_jaxpr(lambda v: plain.apply(v, images(2), train=False))(variables))

    assert "conv_general_dilated" in traced("xla") and "conv_general_dilated" not in traced("gemm")


def test_batch_norm_equals_flax():
    """Where nothing is padded, ours is Flax's own."""
    ours = model_from_nnx(PlainNet, inputs=SHAPE, outputs=3)
    module = PlainNet(nnx.Rngs(jax.random.key(0)))
    module.eval()
    np.testing.assert_allclose(
        ours.apply(ours.init(jax.random.key(0)), images(4), train=False)[0], module(images(4)), rtol=1e-5, atol=1e-6
    )


def test_init_depends_on_the_key_alone(plain):
    same = [plain.init(jax.random.key(seed)).params["head"]["kernel"] for seed in (0, 0, 1)]
    assert (same[0] == same[1]).all() and (same[0] != same[2]).any()


def test_fingerprint_tells_architectures_apart():
    def fingerprint(factory):
        return build_model(factory, inputs=SHAPE, outputs=3).fingerprint

    class Gelu(PlainNet):
        def __call__(self, x):
            return self.head(nnx.gelu(self.norm(self.conv(x))).mean(axis=(1, 2)))

    assert fingerprint(PlainNet) == fingerprint(PlainNet)
    assert fingerprint(PlainNet) != fingerprint(Gelu)
    assert fingerprint(lambda rngs: MLP(SHAPE, 3, widths=(5,), rngs=rngs)) != fingerprint(
        lambda rngs: MLP(SHAPE, 3, widths=(6,), rngs=rngs)
    )


def test_fingerprint_covers_initialization_and_captured_arrays():
    def fingerprint(initializer, constant):
        class Net(nnx.Module):
            def __init__(self, rngs: nnx.Rngs):
                self.head = nnx.Linear(64, 3, kernel_init=initializer, rngs=rngs)

            def __call__(self, x):
                return self.head(x.reshape(len(x), -1) * constant)

        return build_model(Net, inputs=SHAPE, outputs=3).fingerprint

    lecun, zeros = nnx.initializers.lecun_normal(), nnx.initializers.zeros_init()
    ones, halves = np.full((1, 64), 1.0, np.float32), np.full((1, 64), 0.5, np.float32)
    assert fingerprint(lecun, ones) == fingerprint(lecun, ones)
    assert len({fingerprint(lecun, ones), fingerprint(zeros, ones), fingerprint(lecun, halves)}) == 3


@pytest.mark.parametrize("axis", [-1, 3, 1])
def test_padding_stays_out_of_batch_norm_on_any_axis(axis):
    class Net(nnx.Module):
        def __init__(self, rngs: nnx.Rngs):
            self.norm = nnx.BatchNorm(8 if axis == 1 else 1, axis=axis, rngs=rngs)
            self.head = nnx.Linear(64, 3, rngs=rngs)

        def __call__(self, x):
            return self.head(self.norm(x).reshape(len(x), -1))

    model = build_model(Net, inputs=SHAPE, outputs=3)
    variables, mask = model.init(jax.random.key(0)), jnp.arange(8) < 5
    alone = model.apply(variables, images(5), train=True)[0]
    padded = jnp.concatenate([images(5), 1e3 * jnp.ones((3, *SHAPE))])
    np.testing.assert_allclose(
        model.apply(variables, padded, train=True, mask=mask)[0][:5], alone, rtol=1e-4, atol=1e-4
    )


def test_batch_norms_that_padding_would_leak_into_are_refused():
    class Custom(nnx.BatchNorm):
        pass

    class Net(nnx.Module):
        def __init__(self, rngs: nnx.Rngs, kind=Custom, merge=False):
            self.norm, self.head, self.merge = kind(1, rngs=rngs), nnx.Linear(64, 3, rngs=rngs), merge

        def __call__(self, x):
            x = self.norm(x.reshape(-1, 1)).reshape(x.shape) if self.merge else self.norm(x)
            return self.head(x.reshape(len(x), -1))

    with pytest.raises(TypeError, match=r"holds Custom, a subclass of nnx\.BatchNorm"):
        build_model(Net, inputs=SHAPE, outputs=3)
    with pytest.raises(ValueError, match="batch norm gets 128 rows in a batch of 2 images"):
        build_model(lambda rngs: Net(rngs, nnx.BatchNorm, merge=True), inputs=SHAPE, outputs=3)


def test_fingerprint_is_the_same_on_a_terminal(tmp_path):
    """JAX colours what it prints there; a run begun on a terminal must go on from a batch job."""
    code = (
        "import sys; from jaxinfl.models import build_model; "
        "open(sys.argv[1], 'w').write(build_model('small_mlp', inputs=(8, 8, 1), outputs=3).fingerprint)"
    )
    ours, terminal = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"} | {"TERM": "xterm-256color"}
    command = [sys.executable, "-c", code, str(tmp_path / "terminal")]
    subprocess.run(command, stdout=terminal, env=environment, check=True, timeout=120)
    os.close(terminal)
    os.close(ours)
    # The output of this process is kept by pytest.
    here = build_model("small_mlp", inputs=(8, 8, 1), outputs=3).fingerprint
    assert (tmp_path / "terminal").read_text() == here


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        ("resnet1001", ValueError, "'resnet1001' is not registered. Registered are inception_v3, mlp, resnet18"),
        (3, TypeError, "takes a registered name, a callable"),
        (lambda: None, TypeError, "cannot be called with one argument"),
        (lambda rngs: 3, TypeError, "returned int"),
        (
            lambda rngs: SmallCNN(SHAPE, 4, rngs=rngs),
            ValueError,
            r"\(2, 4\) for a batch of 2 in training; the task takes outputs of the shape \(2, 3\)",
        ),
        (lambda rngs: nnx.Linear(1, 3, rngs=rngs), ValueError, r"to \(2, 8, 8, 3\)"),
        (lambda rngs: TwoHeads(rngs, classes=5), ValueError, r"to \(2, 5\) for a batch of 2 in training"),
        (lambda rngs: Sums(), TypeError, "returns tuple; it must return logits"),
    ],
)
def test_refusals(model, error, message):
    with pytest.raises(error, match=message):
        build_model(model, inputs=SHAPE, outputs=3)
