"""The registered transformer and the attention in it, against the definition and against the rules."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxinfl
from jaxinfl import Recipe, native
from jaxinfl.models import ArraySpec, InputSpec, Transformer, build_model, model_from_nnx
from jaxinfl.models.checks import check_examples_apart, check_weights_follow_key
from jaxinfl.models.from_nnx import assemble
from jaxinfl.models.layers import attend, layer_norm, use_kernels
from tests.compile_whole import compile_whole
from tests.kinds_of_data import KINDS

LENGTH, TOKENS = 5, 6
TOKEN_INPUTS = InputSpec((ArraySpec("", (LENGTH,), "int32", TOKENS),))
ROW_INPUTS = InputSpec((ArraySpec("", (LENGTH, 3), "float32"),))
needs_compiler = pytest.mark.skipif(native.why_unavailable() is not None, reason=f"{native.why_unavailable()}")


def build(inputs=TOKEN_INPUTS, outputs=(3,), **options):
    def factory(rngs):
        return Transformer(inputs, outputs, width=8, heads=2, rngs=rngs, **options)

    return model_from_nnx(factory, inputs=inputs, outputs=outputs)


def run(model, inputs, seed=0):
    return np.asarray(model.apply(model.init(jax.random.key(seed)), inputs, train=False)[0])


def tokens(batch=4, seed=0):
    return np.random.default_rng(seed).integers(0, TOKENS, (batch, LENGTH)).astype(np.int32)


def definition(packed, length, heads, causal):
    """Attention place by place, in float64."""
    width = packed.shape[1] // 3
    result = np.zeros((len(packed), width))
    for place in range(len(packed)):
        first, size = place // length * length, width // heads
        seen = np.arange(first, place + 1 if causal else first + length)
        for head in range(heads):
            own = np.arange(head * size, (head + 1) * size)
            scores = packed[np.ix_(seen, width + own)] @ packed[place, own] / np.sqrt(size)
            shares = np.exp(scores - scores.max())
            result[place, own] = shares / shares.sum() @ packed[np.ix_(seen, 2 * width + own)]
    return result


def normal(*shape, seed=0, scale=1.0):
    return (np.random.default_rng(seed).normal(size=shape) * scale).astype(np.float32)


@pytest.mark.parametrize("kernels", [pytest.param("native", marks=needs_compiler), "gemm"])
@settings(max_examples=15, deadline=None)
@given(
    st.integers(1, 3),
    st.one_of(st.integers(1, 9), st.sampled_from([16, 17, 33])),
    st.integers(1, 3),
    st.one_of(st.integers(1, 9), st.sampled_from([16, 20, 40])),
    st.booleans(),
)
def test_attention_equals_its_definition(kernels, sequences, length, heads, size, causal):
    packed, weights = (
        normal(sequences * length, 3 * heads * size, scale=2.0),
        normal(sequences * length, heads * size, seed=1),
    )

    @compile_whole
    def passes(packed):
        with use_kernels(kernels):
            result, back = jax.vjp(lambda p: attend(p, length=length, heads=heads, causal=causal), packed)
        return result, back(jnp.asarray(weights))[0]

    result, grad = passes(packed)
    np.testing.assert_allclose(
        result, definition(packed.astype(np.float64), length, heads, causal), rtol=1e-4, atol=1e-4
    )
    # The derivative along one direction, by a difference in float64.
    along, step = normal(*packed.shape, seed=2).astype(np.float64), 1e-5
    high, low = (definition(packed + sign * step * along, length, heads, causal) for sign in (1, -1))
    expected = ((high - low) / (2 * step) * weights).sum()
    np.testing.assert_allclose((np.asarray(grad, np.float64) * along).sum(), expected, rtol=1e-3, atol=2e-3)


@needs_compiler
def test_native_attention_with_large_scores_and_with_what_is_not_finite():
    packed = normal(8, 12, scale=100.0)

    def run(packed):
        with use_kernels("native"):
            return np.asarray(attend(jnp.asarray(packed), length=4, heads=1, causal=False))

    np.testing.assert_allclose(run(packed), definition(packed.astype(np.float64), 4, 1, False), rtol=1e-4, atol=1e-3)
    packed[1, 0] = np.nan
    broken = run(packed)
    assert np.isnan(broken[1]).all() and np.isfinite(broken[[0, 2, 3, 4, 5, 6, 7]]).all()


@pytest.mark.parametrize("kernels", [pytest.param("native", marks=needs_compiler), "gemm"])
@pytest.mark.parametrize(("rows", "width"), [(1, 1), (5, 3), (33, 40), (70, 64)])
def test_layer_norm_is_that_of_flax(kernels, rows, width):
    x, grad, scale, bias = (
        normal(rows, width, scale=2.0) + 3,
        *(normal(*shape, seed=1) for shape in [(rows, width), (width,), (width,)]),
    )

    def with_ours(x, scale, bias):
        norm = nnx.LayerNorm(width, epsilon=1e-5, use_fast_variance=False, rngs=nnx.Rngs(0))
        norm.scale.set_value(scale)
        norm.bias.set_value(bias)
        with use_kernels(kernels):
            return layer_norm(norm, x), norm(x)

    @compile_whole
    def passes(x, scale, bias, grad):
        (ours, flax), back = jax.vjp(with_ours, x, scale, bias)
        none = jnp.zeros_like(grad)
        return (ours, *back((grad, none))), (flax, *back((none, grad)))

    for one, other in zip(*passes(x, scale, bias, grad), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_places_see_what_they_may():
    """A causal place looks back only, and any other looks everywhere; both are functions of the weights alone."""
    one = tokens()
    other = one.copy()
    other[:, 3] = (other[:, 3] + 1) % TOKENS
    causal, free = (build(outputs=(LENGTH, TOKENS), causal=causal) for causal in (None, False))
    changed = run(causal, one) != run(causal, other)
    assert not changed[:, :3].any() and changed[:, 3:].any(axis=-1).all()
    assert (run(free, one) != run(free, other)).any(axis=-1).all()


def test_pools():
    """The last place of a causal network follows from everything; the mean treats all places alike but for their embeddings."""
    one = tokens()
    other = one.copy()
    other[:, 0] = (other[:, 0] + 1) % TOKENS
    for options in ({"pool": "last", "causal": True}, {"pool": "last"}, {"pool": "mean"}, {"causal": True}):
        model = build(**options)
        assert run(model, one).shape == (4, 3)
        assert (run(model, one) != run(model, other)).any(axis=-1).all()
    assert (run(build(pool="last"), one) != run(build(pool="mean"), one)).any()


def test_rows_of_numbers():
    model = build(ROW_INPUTS)
    assert run(model, normal(4, LENGTH, 3)).shape == (4, 3)


@pytest.mark.parametrize(
    ("inputs", "outputs"), [(TOKEN_INPUTS, (3,)), (TOKEN_INPUTS, (LENGTH, TOKENS)), (ROW_INPUTS, (3,))]
)
def test_the_registered_one_passes_the_checks(inputs, outputs, caplog):
    built = assemble(lambda rngs: Transformer(inputs, outputs, rngs=rngs), "transformer", inputs)
    check_weights_follow_key(built.traces.init, built.variables, "transformer", one_module=False)
    check_examples_apart(built.model.apply, built.variables, inputs, "transformer", has_dropout=False)
    assert not caplog.records
    model = build_model("transformer", inputs=inputs, outputs=outputs)
    assert model.fingerprint == built.model.fingerprint


@pytest.mark.parametrize(
    ("inputs", "outputs", "match"),
    [
        ((4,), (3,), r"takes one array of tokens, int32 \[batch, length\].*float32 \[batch, 4\]"),
        ((8, 8, 1), (3,), "these inputs are float32"),
        (InputSpec((ArraySpec("a", (LENGTH,), "int32", 3),)), (3,), "these inputs are a: int32"),
        (InputSpec((ArraySpec("", (LENGTH,), "bool"),)), (3,), "these inputs are bool"),
        (TOKEN_INPUTS, (4, TOKENS), "each of the 5 places of the inputs, and the targets have 4"),
    ],
)
def test_other_inputs_are_refused(inputs, outputs, match):
    with pytest.raises(ValueError, match=match):
        build_model("transformer", inputs=inputs, outputs=outputs)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"heads": 3}, ValueError, "heads is 3, which does not divide width 64"),
        ({"layers": 0}, ValueError, "layers"),
        ({"width": 6.5}, TypeError, "width"),
        ({"pool": "max"}, ValueError, "pool is 'max'"),
    ],
)
def test_other_arguments_are_refused(options, error, match, types_unchecked):
    with pytest.raises(error, match=match):
        build_model(lambda rngs: Transformer(TOKEN_INPUTS, (3,), rngs=rngs, **options), inputs=TOKEN_INPUTS, outputs=3)


@pytest.mark.slow
def test_it_learns_a_language_of_two_successors():
    """Each token has two successors, so that the best loss is log 2; a model of the token's frequency stays above 2."""
    rng = np.random.default_rng(0)
    successors = np.argsort(rng.random((12, 12)), axis=1)[:, :2]
    text = np.zeros((600, 16), np.int64)
    for place in range(1, 16):
        text[:, place] = successors[text[:, place - 1], rng.integers(0, 2, 600)]
    following = np.where(np.arange(16) < 15, np.roll(text, -1, axis=1), -1)
    data = jaxinfl.Dataset(
        train_inputs=text[:500],
        train_targets=following[:500],
        test_inputs=text[500:],
        test_targets=following[500:],
        task="next_token",
    )
    recipe = Recipe(epochs=5, batch_size=32, learning_rate=0.1)
    runs = jaxinfl.train_ensemble(
        np.ones((1, 500), bool), jax.random.split(jax.random.key(0), 1), data=data, model="transformer", recipe=recipe
    )
    assert np.log(2) - 0.05 < runs.test_score("loss").mean() < 0.9


def test_the_task_decides_about_outputs():
    data = KINDS["next token"].data
    assert KINDS["next token"].model == KINDS["sequences"].model == "transformer"
    assert data.train_targets.shape[1:] == data.train_inputs.shape[1:]
