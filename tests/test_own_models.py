"""Models in every form that a user may bring: a pair of functions, a Linen module, an Equinox module, and an NNX module."""

import re
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import jaxinfl
from jaxinfl.models import REGISTRY, Variables, build_model, find_factory
from tests.compile_whole import compile_whole
from tests.kinds_of_data import KINDS

FEATURES, HIDDEN, CLASSES = 4, 8, 3
PAGE = (Path(__file__).parent.parent / "docs" / "own_models.md").read_text()


def build(model, **options):
    return build_model(model, inputs=(FEATURES,), outputs=CLASSES, **options)


class NNX(nnx.Module):
    def __init__(self, rngs):
        self.first, self.last = nnx.Linear(FEATURES, HIDDEN, rngs=rngs), nnx.Linear(HIDDEN, CLASSES, rngs=rngs)

    def __call__(self, x):
        return self.last(nnx.relu(self.first(x)))


class Linen(linen.Module):
    hidden: int = HIDDEN

    @linen.compact
    def __call__(self, x):
        return linen.Dense(CLASSES, name="last")(linen.relu(linen.Dense(self.hidden, name="first")(x)))


class Equinox(eqx.Module):
    first: eqx.nn.Linear
    last: eqx.nn.Linear

    def __init__(self, key):
        one, other = jax.random.split(key)
        self.first = eqx.nn.Linear(FEATURES, HIDDEN, key=one)
        self.last = eqx.nn.Linear(HIDDEN, CLASSES, key=other)

    def __call__(self, x):
        return self.last(jax.nn.relu(self.first(x)))


def init(key):
    one, other = jax.random.split(key)
    shapes = (FEATURES, HIDDEN), (HIDDEN, CLASSES)
    return [
        (jax.random.normal(own, shape), jnp.zeros(shape[1])) for own, shape in zip((one, other), shapes, strict=True)
    ]


def apply(variables, inputs, *, train, key):
    (first, shift), (last, bias) = variables
    return jax.nn.relu(inputs @ first + shift[None]) @ last + bias[None]


def as_linen(params):
    return params


def as_equinox(params):
    return {name: {"weight": layer["kernel"].swapaxes(-1, -2), "bias": layer["bias"]} for name, layer in params.items()}


def as_functions(params):
    return {i: {0: params[name]["kernel"], 1: params[name]["bias"]} for i, name in enumerate(("first", "last"))}


FORMS = {"Linen": (Linen(), as_linen), "Equinox": (Equinox, as_equinox), "functions": ((init, apply), as_functions)}


def gradient(model):
    @compile_whole
    def passes(params, x):
        def loss(params):
            output = model.apply(Variables(params, {}), x, train=True, key=jax.random.key(0))[0]
            return jnp.sum(jnp.square(output)), output

        return jax.grad(loss, has_aux=True)(params)

    return passes


@pytest.mark.parametrize("form", FORMS)
def test_each_form_computes_what_the_nnx_module_does(form):
    """Equal weights give equal outputs and gradients."""
    model, convert = FORMS[form]
    own, ours = build(model), build(NNX)
    params = ours.init(jax.random.key(0)).params
    assert jax.tree.map(jnp.shape, own.init(jax.random.key(1)).params) == jax.tree.map(jnp.shape, convert(params))
    assert own.num_params == ours.num_params
    x = np.random.default_rng(0).normal(size=(6, FEATURES)).astype(np.float32)
    (grads, outputs), (own_grads, own_outputs) = gradient(ours)(params, x), gradient(own)(convert(params), x)
    np.testing.assert_allclose(own_outputs, outputs, rtol=1e-5, atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), own_grads, convert(grads))


@pytest.mark.parametrize("form", FORMS)
def test_each_form_follows_its_key_and_is_the_same_again(form):
    one, other = build(FORMS[form][0]), build(FORMS[form][0])
    assert one.fingerprint == other.fingerprint != build(NNX).fingerprint
    first, second = (jax.tree.leaves(one.init(jax.random.key(seed)).params) for seed in (0, 1))
    assert any((a != b).any() for a, b in zip(first, second, strict=True))


def test_models_are_found_again_by_name():
    for model in (*(model for model, _ in FORMS.values()), NNX):
        name = build(model).name
        assert "tests.test_own_models." in name
        assert build(find_factory(name)).fingerprint == build(model).fingerprint
    # The defaults of a Linen class compute something else, which `recall_model` finds by the fingerprint.
    wide = build(Linen(hidden=9))
    assert build(find_factory(wide.name)).fingerprint != wide.fingerprint
    for name in ("(tests.test_own_models.init, tests.test_own_models.nothing)", "(os.getcwd, os.listdir)", "os.getcwd"):
        assert find_factory(name) is None
    assert find_factory(build(lambda key: Equinox(key)).name) is None


class State(NNX):
    """What the pair of functions with statistics below computes, as a module."""

    def __init__(self, rngs):
        super().__init__(rngs)
        self.norm = nnx.BatchNorm(HIDDEN, momentum=0.9, rngs=rngs)

    def __call__(self, x):
        return self.last(self.norm(self.first(x)))


def init_stats(key):
    return Variables(
        {"layers": init(key), "scale": jnp.ones(HIDDEN)}, {"mean": jnp.zeros(HIDDEN), "steps": jnp.int32(0)}
    )


def apply_stats(variables, inputs, *, train, key, mask):
    (first, shift), (last, bias) = variables.params["layers"]
    x = inputs @ first + shift[None]
    own = jnp.sum(jnp.where(mask[:, None], x, 0), 0) / jnp.sum(mask).astype(jnp.float32)
    mean = own if train else variables.stats["mean"]
    stats = {"mean": 0.9 * variables.stats["mean"] + 0.1 * own, "steps": variables.stats["steps"] + 1}
    return (x - mean[None]) * variables.params["scale"][None] @ last + bias[None], stats if train else variables.stats


def test_a_pair_may_keep_statistics_and_is_told_the_padding(caplog):
    with pytest.raises(ValueError, match="in training the outputs for one example change"):
        build((init_stats, apply_stats))
    model = build((init_stats, apply_stats), allow=("coupled_examples",))
    assert not caplog.records
    variables = model.init(jax.random.key(0))
    x = np.random.default_rng(0).normal(size=(6, FEATURES)).astype(np.float32)
    whole, stats = model.apply(variables, x[:4], train=True, key=jax.random.key(0))
    padded, own = model.apply(variables, x, train=True, mask=jnp.arange(6) < 4, key=jax.random.key(0))
    np.testing.assert_allclose(padded[:4], whole, rtol=1e-5, atol=1e-6)
    assert own["steps"] == 1 and own["steps"].dtype == np.int32
    np.testing.assert_allclose(own["mean"], stats["mean"], rtol=1e-5)


class LinenNorm(linen.Module):
    """Linen's own way of writing batch norm and dropout, with the flags handed on by the module."""

    @linen.compact
    def __call__(self, x, train=True):
        x = linen.BatchNorm(use_running_average=not train, name="norm")(linen.Dense(HIDDEN, name="first")(x))
        return linen.Dense(CLASSES, name="last")(linen.Dropout(0.5, deterministic=not train)(x))


BARE = linen.Sequential([linen.Dense(HIDDEN), linen.BatchNorm(), linen.Dropout(0.5), linen.Dense(CLASSES)])
"""The same with nobody to set the flags."""


class LinenField(linen.Module):
    train: bool = False

    @linen.compact
    def __call__(self, x):
        x = linen.Dense(CLASSES)(x)
        return x + 1 if self.train else x


@pytest.mark.parametrize("module", [LinenNorm(), BARE], ids=["by hand", "by nobody"])
def test_linen_modules_know_their_mode(module):
    model = build(module)
    variables, x = model.init(jax.random.key(0)), np.random.default_rng(0).normal(size=(6, FEATURES)).astype(np.float32)

    def run(train, key):
        return model.apply(variables, x, train=train, key=jax.random.key(key))

    assert (run(True, 0)[0] != run(True, 1)[0]).any(), "dropout does not act"
    np.testing.assert_array_equal(run(False, 0)[0], run(False, 1)[0])
    jax.tree.map(np.testing.assert_array_equal, run(False, 0)[1], variables.stats)
    assert any((a != b).any() for a, b in zip(*map(jax.tree.leaves, (run(True, 0)[1], variables.stats)), strict=True))


def test_a_field_of_a_linen_module_is_a_flag():
    model = build(LinenField(train=True))
    variables, x = model.init(jax.random.key(0)), np.ones((2, FEATURES), np.float32)
    both = [model.apply(variables, x, train=train, key=jax.random.key(0))[0] for train in (True, False)]
    np.testing.assert_allclose(both[0], both[1] + 1, rtol=1e-6)


def test_linen_batch_norm_leaves_padding_out_to_the_bit():
    """It has the numbers of `nnx.BatchNorm`, and other padding changes none of them."""

    class Norm(linen.Module):
        @linen.compact
        def __call__(self, x, train=True):
            x = linen.BatchNorm(use_running_average=not train, momentum=0.9, name="norm")(
                linen.Dense(HIDDEN, name="first")(x)
            )
            return linen.Dense(CLASSES, name="last")(x)

    model, ours = build(Norm()), build(State)
    start = ours.init(jax.random.key(0))
    own_start = Variables(start.params, {"batch_stats": start.stats})
    rng = np.random.default_rng(0)
    x = rng.normal(size=(6, FEATURES)).astype(np.float32)
    other = np.concatenate([x[:4], rng.normal(size=(2, FEATURES)).astype(np.float32) * 100])
    mask = jnp.arange(6) < 4
    output, stats = model.apply(own_start, x, train=True, mask=mask, key=jax.random.key(0))
    for changed, want in ((model, own_start), (ours, start)):
        same, kept = changed.apply(want, other, train=True, mask=mask, key=jax.random.key(0))
        np.testing.assert_array_equal(same[:4], output[:4])
        jax.tree.map(np.testing.assert_array_equal, kept.get("batch_stats", kept), stats["batch_stats"])
    assert (stats["batch_stats"]["norm"]["mean"] != 0).all()


class WithDropout(Equinox):
    drop: eqx.nn.Dropout

    def __init__(self, key):
        super().__init__(key)
        self.drop = eqx.nn.Dropout(0.5)

    def __call__(self, x, key):
        return self.last(self.drop(jax.nn.relu(self.first(x)), key=key))


def test_equinox_modules_know_their_mode_and_keep_other_arrays():
    class WithTable(WithDropout):
        table: jax.Array

        def __init__(self, key):
            super().__init__(key)
            self.table = jnp.arange(HIDDEN)

        def __call__(self, x, key):
            return super().__call__(x, key) + self.table[1].astype(jnp.float32)

    model = build(WithTable)
    variables, x = model.init(jax.random.key(0)), np.ones((5, FEATURES), np.float32)
    assert variables.stats["table"].dtype == np.int32 and "table" not in variables.params
    drawn = [model.apply(variables, x, train=True, key=jax.random.key(key))[0] for key in (0, 1)]
    assert (drawn[0] != drawn[1]).any() and (drawn[0][0] != drawn[0][1]).any(), "examples share their dropout"
    still = [model.apply(variables, x, train=False, key=jax.random.key(key))[0] for key in (0, 1)]
    np.testing.assert_array_equal(*still)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_each_form_trains_as_the_nnx_module_does(form):
    """Models that start from equal weights come to the same margins up to rounding, with the same subsets and keys."""
    rng = np.random.default_rng(0)
    table = rng.normal(size=(39, FEATURES)).astype(np.float32)
    labels = np.arange(39) % CLASSES
    data = jaxinfl.Dataset(
        train_inputs=table[:30], train_targets=labels[:30], test_inputs=table[30:], test_targets=labels[30:]
    )
    masks, keys = rng.random((2, 30)) < 0.7, jax.random.split(jax.random.key(0), 2)
    recipe = jaxinfl.Recipe(epochs=3, batch_size=8, learning_rate=0.05)
    params = jax.vmap(build(NNX).init)(keys).params
    model, convert = FORMS[form]
    one, other = (
        jaxinfl.train_ensemble(
            masks, keys, data=data, model=each, recipe=recipe, initial=Variables(start, {}), progress=False, tune=False
        )
        for each, start in ((NNX, params), (model, convert(params)))
    )
    np.testing.assert_allclose(other.test_margin, one.test_margin, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["functions", "Linen", "Equinox"])
def test_a_run_finds_its_model_again(form, tmp_path):
    kind = KINDS[form]
    masks, keys = (
        np.random.default_rng(0).random((2, len(kind.data.train_targets))) < 0.7,
        jax.random.split(jax.random.key(0), 2),
    )
    jaxinfl.train_ensemble(
        masks,
        keys,
        data=kind.data,
        model=kind.model,
        recipe=kind.recipe,
        run_dir=tmp_path / "run",
        keep_weights=True,
        tune=False,
    )
    runs = jaxinfl.Ensemble.open(tmp_path / "run")
    again = runs.predict(data=kind.data)
    np.testing.assert_array_equal(again.test_score(kind.score), runs.test_score(kind.score))


def run_page(names):
    setup, *forms = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(forms) == 4
    assert all(sum(bool(line.strip()) for line in form.splitlines()) <= 10 for form in forms)
    exec(setup.replace("draw_subsets(20, ", "draw_subsets(2, ").replace("epochs=3", "epochs=1"), names)  # noqa: S102 - our own page
    for form in forms:
        exec(form, names)  # noqa: S102 - our own page
        yield names.pop("runs")


def test_the_page_shows_each_form_in_ten_lines(monkeypatch):
    """Here the models are built, and the next test trains them."""
    monkeypatch.setattr(
        jaxinfl, "train_ensemble", lambda *_, model, **__: build_model(model, inputs=(8, 8, 1), outputs=10)
    )
    sizes = [model.num_params for model in run_page({})]
    assert set(sizes) == {64 * 32 + 32 + 32 * 10 + 10}


@pytest.mark.slow
def test_the_page_trains():
    for runs in run_page({}):
        assert len(runs) == 2 and runs.test_correct.mean() > 0.3


def test_a_page_lists_the_registered_models():
    page = (Path(__file__).parent.parent / "docs" / "models.md").read_text()
    assert all(f"| `{name}` |" in page for name in REGISTRY)
