"""The rules that must hold exactly, on whole trainings."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxinfl
from jaxinfl import Ensemble, ModelKeys, Recipe, RunDirectoryError, train_ensemble
from jaxinfl.models import SmallCNN, build_model
from jaxinfl.store import RunStore
from jaxinfl.training.divergence import TooManyDiverged
from jaxinfl.training.record import identity_of
from tests.conftest import make_data

RECIPE = Recipe(epochs=2, batch_size=8, crop_padding=1, flip=True, label_smoothing=0.1)
ARRAYS = ("train_prediction", "test_prediction", "train_margin", "test_margin")


def tiny_cnn(rngs):
    return SmallCNN((8, 8, 1), 3, widths=(4, 8), strides=(1, 2), rngs=rngs)


# Built once: programs are compiled once for each Model object, and again for each callable.
TINY_CNN = build_model(tiny_cnn, image_shape=(8, 8, 1), num_classes=3)


def keys_of(models, seed=0):
    return jax.random.split(jax.random.key(seed), models)


def subsets(models=6, num_train=40, seed=0):
    """Subsets of different sizes."""
    rng = np.random.default_rng(seed)
    return np.stack([rng.permutation(num_train) < size for size in np.linspace(5, num_train, models).astype(int)])


def train(masks, keys, data, **options):
    options = {"model": TINY_CNN, "recipe": RECIPE, "progress": False} | options
    return train_ensemble(masks, keys, data=data, **options)


def test_callables_are_taken(toy, base):
    assert_same(train(subsets(), keys_of(6), toy, model=tiny_cnn), base)


def assert_same(one, other, rows=slice(None), other_rows=slice(None)):
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(one, name)[rows], getattr(other, name)[other_rows], err_msg=name)


@pytest.fixture(scope="module")
def base(toy):
    return train(subsets(), keys_of(6), toy)


def test_it_learns_and_says_so(toy):
    runs = train(np.ones((2, 40), bool), keys_of(2), toy, recipe=Recipe(epochs=12, batch_size=8))
    assert runs.test_correct.mean() > 0.9
    np.testing.assert_array_equal(runs.test_correct, runs.test_prediction == toy.test_labels)
    # The most likely class is the true one exactly where p_y beats every other; p_y > 1/2 suffices.
    assert runs.test_correct[runs.test_probability > 0.5].all()
    np.testing.assert_allclose(runs.test_probability, 1 / (1 + np.exp(-runs.test_margin.astype(float))), rtol=1e-5)
    assert not runs.diverged.any() and runs.complete and len(runs) == 2


@pytest.mark.parametrize("normalization", ["subset", "none", ((0.4, 0.25),)])
def test_excluded_examples_have_no_effect(toy, normalization):
    """Rule 1: other pixels and labels of excluded examples, the same bits; every subset has a partial batch."""
    recipe = dataclasses.replace(RECIPE, normalization=normalization)
    masks = subsets()[:4]
    excluded = ~masks.any(axis=0)
    assert excluded.any()
    images, labels = toy.train_images.copy(), toy.train_labels.copy()
    images[excluded] = 255 - images[excluded] // 2
    labels[excluded] = (labels[excluded] + 1) % 3
    changed = jaxinfl.Dataset(
        train_images=images, train_labels=labels, test_images=toy.test_images, test_labels=toy.test_labels
    )
    one, other = (train(masks, keys_of(4), data, recipe=recipe) for data in (toy, changed))
    for name in ("test_prediction", "test_margin"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    np.testing.assert_array_equal(one.train_margin[:, ~excluded], other.train_margin[:, ~excluded])
    # And an included one has: the test above could not fail otherwise.
    images[masks.any(axis=0).argmax()] //= 2
    touched = jaxinfl.Dataset(
        train_images=images, train_labels=labels, test_images=toy.test_images, test_labels=toy.test_labels
    )
    assert (train(masks, keys_of(4), touched, recipe=recipe).test_margin != one.test_margin).any()


def test_neighbours_position_and_shards_do_not_matter(toy, base):
    """Rule 3, to the bit."""
    masks, keys = subsets(), keys_of(6)
    for row in (0, 3, 5):
        assert_same(train(masks[row : row + 1], keys[row : row + 1], toy), base, other_rows=slice(row, row + 1))
    backwards = train(masks[::-1], keys[::-1], toy, shard_size=1)
    assert_same(backwards, base, rows=slice(None, None, -1))
    crowd = train(np.concatenate([~subsets(5, seed=1) | masks[:1], masks]), jnp.concatenate([keys_of(5, 1), keys]), toy)
    assert_same(crowd, base, rows=slice(5, None))


def test_same_arguments_same_bits(toy, base):
    assert_same(train(subsets(), keys_of(6), toy), base)
    assert (train(subsets(), keys_of(6, seed=9), toy).test_margin != base.test_margin).any()


def test_vmapped_equals_one_by_one(toy, base):
    """At another width the sums may round otherwise; 2 epochs amplify it little."""
    np.testing.assert_allclose(train(subsets(), keys_of(6), toy, width=4).test_margin, base.test_margin, atol=2e-3)


def test_patches_equal_stock_convolutions(toy, base):
    np.testing.assert_allclose(train(subsets(), keys_of(6), toy, conv="stock").test_margin, base.test_margin, atol=2e-3)


def test_each_source_of_randomness_can_be_held(toy):
    """Appendix C: the same keys everywhere give the same model, one source freed gives others."""
    masks = np.tile(subsets()[3], (3, 1))
    one = jax.random.key(5)
    held = {name: jnp.stack([one] * 3) for name in ("init", "order", "augment")}
    same = train(masks, ModelKeys(**held), toy)
    assert (same.test_margin == same.test_margin[:1]).all()
    for source in held:
        freed = train(masks, ModelKeys(**held | {source: keys_of(3)}), toy)
        assert len(np.unique(freed.test_margin, axis=0)) == 3, source


def test_one_key_a_model_is_split_into_three(toy, base):
    split = ModelKeys.split(keys_of(6))
    assert_same(train(subsets(), split, toy), base)
    assert len(np.unique(split.data().reshape(18, -1), axis=0)) == 18


class SometimesNaN(nnx.Module):
    """Diverges where its key says so."""

    def __init__(self, rngs: nnx.Rngs):
        self.head = nnx.Linear(64, 3, rngs=rngs)
        self.scale = nnx.Param(jnp.where(jax.random.bernoulli(rngs.params()), jnp.nan, 1.0))

    def __call__(self, x):
        return self.head(x.reshape(len(x), -1)) * self.scale[...]


@pytest.mark.parametrize("width", [1, 4])
def test_a_diverging_model_is_marked_and_harms_no_other(toy, width):
    masks, keys = np.tile(subsets()[4], (8, 1)), keys_of(8)
    with pytest.warns(RuntimeWarning, match=r"of 8 models diverged and are left out of the ensemble in memory"):
        without = train(masks, keys, toy, model=SometimesNaN, width=width, max_diverged=1.0)
    runs = without.with_diverged()
    assert 0 < runs.diverged.sum() < 8 and without.num_diverged == runs.diverged.sum()
    assert "models diverged, left out" in repr(without) and not without.diverged.any()
    assert_same(without, runs, other_rows=~runs.diverged)
    np.testing.assert_array_equal(without.model_index, np.flatnonzero(~runs.diverged))
    assert (runs.test_prediction[runs.diverged] == -1).all() and np.isnan(runs.test_margin[runs.diverged]).all()
    assert not runs.test_correct[runs.diverged].any() and "models diverged" in repr(runs)
    healthy = ~runs.diverged
    assert np.isfinite(runs.test_margin[healthy]).all()
    alone = train(masks[healthy], keys[healthy], toy, model=SometimesNaN, width=width)
    assert_same(alone, runs, other_rows=healthy)


def test_many_diverging_models_end_the_run(toy, tmp_path):
    masks, keys = np.tile(subsets()[4], (8, 1)), keys_of(8)
    options = {"model": build_model(SometimesNaN, image_shape=(8, 8, 1), num_classes=3), "run_dir": tmp_path / "run"}
    advice = r"diverged \(a loss or logit was not finite\), more than 5% of the 8 models .* Lower learning_rate \(it is 0.1\)"
    for _ in range(2):  # while it trains, and when it is asked for again
        with pytest.raises(TooManyDiverged, match=advice):
            train(masks, keys, toy, shard_size=8, **options)
    with pytest.warns(RuntimeWarning, match="left out"):
        assert train(masks, keys, toy, max_diverged=1.0, **options).complete


def test_nothing_is_traced_again_between_shards(toy):
    traces = []

    class Counting(nnx.Module):
        def __init__(self, rngs: nnx.Rngs):
            self.head = nnx.Linear(64, 3, rngs=rngs)

        def __call__(self, x):
            traces.append(x.shape)
            return self.head(x.reshape(len(x), -1))

    model = build_model(Counting, image_shape=(8, 8, 1), num_classes=3)
    recipe = Recipe(epochs=1, batch_size=8)
    when_compiled = []

    def note(plan):
        when_compiled.append(len(traces))

    train(subsets(40), keys_of(40), toy, model=model, recipe=recipe, shard_size=4, on_plan=note)
    assert when_compiled == [len(traces)] and len(traces) > 0


def test_bfloat16_trains(toy):
    runs = train(
        np.ones((2, 40), bool), keys_of(2), toy, recipe=Recipe(epochs=12, batch_size=8, compute_dtype="bfloat16")
    )
    assert runs.test_correct.mean() > 0.8 and runs.test_margin.dtype == np.float32


def test_zero_epochs_keep_the_initial_model(toy):
    runs = train(subsets(), keys_of(6), toy, recipe=Recipe(epochs=0))
    assert np.isfinite(runs.test_margin).all()


# --- run directories -------------------------------------------------------------------------------------------------


def test_interrupted_and_continued_equals_uninterrupted(toy, base, tmp_path, monkeypatch, capsys):
    """Rule 4: Ctrl-C while a shard is on its way; the same call goes on and trains only what is missing."""
    write, written = RunStore.write, []

    def interrupted_write(store, shard, rows, diverged):
        if len(written) == 1:
            raise KeyboardInterrupt
        written.append(shard)
        write(store, shard, rows, diverged)

    monkeypatch.setattr(RunStore, "write", interrupted_write)
    with pytest.raises(KeyboardInterrupt):
        train(subsets(), keys_of(6), toy, run_dir=tmp_path / "run", shard_size=2)
    assert "2 of 6 models are finished and kept in" in capsys.readouterr().err
    partial = Ensemble.open(tmp_path / "run")
    assert not partial.complete and list(partial.model_index) == [0, 1]
    assert_same(partial, base, other_rows=slice(0, 2))

    monkeypatch.setattr(
        RunStore, "write", lambda store, shard, *rest: (written.append(shard), write(store, shard, *rest))
    )
    runs = train(subsets(), keys_of(6), toy, run_dir=tmp_path / "run")
    assert [(shard.start, shard.stop) for shard in written] == [(0, 2), (2, 4), (4, 6)]
    assert_same(runs, base)
    assert_same(Ensemble.open(tmp_path / "run"), base)


def test_a_finished_run_is_read_and_not_trained(toy, tmp_path, monkeypatch):
    runs = train(subsets(), keys_of(6), toy, run_dir=tmp_path / "run")
    monkeypatch.setattr("jaxinfl.training.ensemble.Trainer", None)
    plans = []
    assert_same(train(subsets(), keys_of(6), toy, run_dir=tmp_path / "run", on_plan=plans.append), runs)
    assert not plans


def test_width_and_lowering_of_a_run_stay(toy, tmp_path, monkeypatch):
    write, written = RunStore.write, []

    def write_one(store, shard, rows, diverged):
        if written:
            raise KeyboardInterrupt
        written.append(shard)
        write(store, shard, rows, diverged)

    monkeypatch.setattr(RunStore, "write", write_one)
    with pytest.raises(KeyboardInterrupt):
        train(subsets(), keys_of(6), toy, run_dir=tmp_path / "run", shard_size=2, width=4)
    monkeypatch.undo()
    for change in ({"width": 1}, {"conv": "stock"}):
        with pytest.raises(RunDirectoryError, match=f"differs in {next(iter(change))}"):
            train(subsets(), keys_of(6), toy, run_dir=tmp_path / "run", **change)
    runs = train(subsets(), keys_of(6), toy, run_dir=tmp_path / "run")
    assert_same(runs, train(subsets(), keys_of(6), toy, width=4))


def test_a_run_in_an_empty_directory_that_is_there(toy, base, tmp_path, monkeypatch):
    (tmp_path / "scratch").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "scratch")
    assert_same(train(subsets(), keys_of(6), toy, run_dir=tmp_path / "link"), base)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert_same(train(subsets(), keys_of(6), toy, run_dir="."), base)
    assert_same(Ensemble.open(tmp_path / "here"), base)


def test_a_finished_model_for_other_classes_is_refused(toy):
    other = build_model("small_mlp", image_shape=(8, 8, 1), num_classes=10)
    with pytest.raises(ValueError, match=r"to \(2, 10\) in training; it must return one logit a class: \(2, 3\)"):
        train(subsets(), keys_of(6), toy, model=other)


def test_with_64_bits_and_low_precision_parameters(toy):
    def half(rngs):
        return nnx.Sequential(lambda x: x.reshape(len(x), -1), nnx.Linear(64, 3, param_dtype=jnp.bfloat16, rngs=rngs))

    with jax.enable_x64(True):
        runs = train(subsets(), keys_of(6), toy)
    assert np.isfinite(runs.test_margin).all() and runs.test_margin.dtype == np.float32
    with jax.numpy_dtype_promotion("standard"):  # inside Flax and Optax, bfloat16 meets float32
        assert np.isfinite(train(subsets(), keys_of(6), toy, model=half).test_margin).all()


def test_the_same_data_under_another_name_goes_on(toy, tmp_path):
    runs = train(subsets(), keys_of(6), toy, run_dir=tmp_path / "run")
    renamed = jaxinfl.Dataset(
        train_images=toy.train_images,
        train_labels=toy.train_labels,
        test_images=toy.test_images,
        test_labels=toy.test_labels,
        name="moved",
    )
    assert_same(train(subsets(), keys_of(6), renamed, run_dir=tmp_path / "run"), runs)


def test_a_run_from_before_a_field_of_the_recipe_goes_on(toy, base, tmp_path, monkeypatch):
    """Its description lacks the field, which then has its default."""

    def older(*arguments):
        identity = identity_of(*arguments)
        for field in ("microbatch", "resized_crop"):
            del identity["recipe"][field]
        return identity

    with monkeypatch.context() as patch:
        patch.setattr("jaxinfl.training.ensemble.identity_of", older)
        train(subsets(), keys_of(6), toy, run_dir=tmp_path / "run")
    assert_same(train(subsets(), keys_of(6), toy, run_dir=tmp_path / "run"), base)
    other = dataclasses.replace(RECIPE, microbatch=4)
    with pytest.raises(RunDirectoryError, match=r"differs in recipe \(microbatch\): None there, 4 now"):
        train(subsets(), keys_of(6), toy, run_dir=tmp_path / "run", recipe=other)


def test_a_foreign_directory_is_refused(toy, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunDirectoryError, match="is not empty and holds no jaxinfl run"):
        train(subsets(), keys_of(6), toy, run_dir=tmp_path)


def test_the_plan_is_announced(toy, tmp_path):
    plans = []
    train(subsets(), keys_of(6), toy, run_dir=tmp_path / "run", on_plan=plans.append)
    (plan,) = plans
    assert plan.num_models == 6 and plan.finished == 0 and plan.seconds > 0
    assert plan.num_params == sum(9 * a * b + 2 * b for a, b in ((1, 4), (4, 8))) + 8 * 3 + 3
    used = sum(file.stat().st_size for file in (tmp_path / "run").rglob("c/**/*") if file.is_file())
    assert used <= plan.disk_bytes + 4096  # keys, labels and checksums of so small a run
    for word in ("6 x", "parameters", "models per hour", "disk"):
        assert word in plan.describe()


def test_the_run_says_how_it_was_made(toy, tmp_path):
    text = repr(train(subsets(), keys_of(6), toy, run_dir=tmp_path / "run"))
    for word in ("6 of 6 models", "tiny_cnn", "toy: 40 train, 12 test", "epochs=2", "jax 0.", "pytest", "2 x cpu"):
        assert word in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": make_data(seed=3)}, r"differs in data \(fingerprint\)"),
        ({"masks": subsets(seed=2)}, "differs in masks"),
        ({"keys": keys_of(6, seed=2)}, "differs in keys"),
        ({"model": "mlp"}, r"differs in model \(name\)"),
        ({"recipe": dataclasses.replace(RECIPE, epochs=3)}, r"differs in recipe \(epochs\): 2 there, 3 now"),
        ({"recipe": dataclasses.replace(RECIPE, crop_padding=0)}, r"differs in recipe \(crop_padding\)"),
    ],
)
def test_another_run_is_refused_by_name(toy, tmp_path, change, message):
    arguments = {"masks": subsets(), "keys": keys_of(6), "data": toy, "run_dir": tmp_path / "run"}
    train(**arguments)
    with pytest.raises(RunDirectoryError, match=message + ".*Use another run_dir"):
        train(**arguments | change)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"masks": subsets().astype(float)}, TypeError, "masks has dtype float64, but takes bool"),
        ({"masks": subsets()[0]}, ValueError, r"masks has shape \(40,\)"),
        ({"masks": np.zeros((0, 40), bool)}, ValueError, r"masks has shape \(0, 40\)"),
        ({"masks": subsets()[:, :30]}, ValueError, "masks has 30 columns, but toy has 40 training examples"),
        ({"masks": subsets() & (np.arange(6) != 2)[:, None]}, ValueError, r"1 subsets are empty \(first: \[2\]\)"),
        ({"keys": keys_of(5)}, ValueError, "keys has 5 keys for 6 models"),
        ({"keys": jax.random.key(0)}, ValueError, r"keys has shape \(\)"),
        ({"keys": np.arange(6)}, TypeError, "keys has dtype int64"),
        ({"keys": 3}, TypeError, "keys is int"),
        ({"keys": jax.random.split(jax.random.key(0, impl="rbg"), 6)}, ValueError, "takes threefry2x32"),
        ({"data": "digits"}, TypeError, "data is str; it takes a jaxinfl.Dataset"),
        ({"recipe": {"epochs": 3}}, TypeError, "recipe is dict"),
        (
            {"recipe": Recipe(resized_crop=9)},
            ValueError,
            r"resized_crop is 9, larger than the images \(8x8\).*image_size=10",
        ),
        ({"recipe": Recipe(crop_padding=8)}, ValueError, "crop_padding is 8, as large as the images"),
        ({"recipe": Recipe(normalization=((0.5, 0.2),) * 3)}, ValueError, "names 3 channels; toy has 1"),
        ({"model": lambda rngs: nnx.Linear(1, 2, rngs=rngs)}, ValueError, "must return one logit a class"),
        ({"width": 0}, ValueError, "width is 0"),
        ({"conv": "fft"}, ValueError, "conv is 'fft'"),
        ({"shard_size": 1.5}, ValueError, "shard_size is 1.5"),
        ({"part": 2}, TypeError, r"part is 2; it takes two whole numbers, \(1, 4\) for the first quarter"),
        ({"part": (1, 7), "run_dir": "x"}, ValueError, r"part is \(1, 7\).* at most one part for each of the 6 models"),
        ({"part": (1, 2)}, ValueError, "part is given without run_dir"),
        ({"checkpoint_every": 0}, ValueError, "checkpoint_every is 0; it takes a number of seconds above 0"),
        ({"max_diverged": 5}, ValueError, "max_diverged is 5; it takes a share from 0 to 1"),
    ],
)
def test_refused_before_anything_is_compiled(toy, monkeypatch, change, error, message):
    monkeypatch.setattr("jaxinfl.training.trainer.build_programs", None)
    with pytest.raises(error, match=message):
        train(**{"masks": subsets(), "keys": keys_of(6), "data": toy} | change)


def test_keys_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="different numbers of keys"):
        ModelKeys(init=keys_of(2), order=keys_of(3), augment=keys_of(2))


def test_raw_keys_are_taken(toy, base):
    raw = jax.random.key_data(keys_of(6))
    assert_same(train(subsets(), raw, toy), base)


def test_digits_reach_their_accuracy(digits):
    """The demo's recipe."""
    from experiments.cifar100_subsets import PRESETS

    masks = jaxinfl.draw_subsets(4, digits.num_train)
    runs = train_ensemble(masks, keys_of(4), data=digits, recipe=PRESETS["digits"].recipe, progress=False)
    assert runs.test_correct.mean(axis=1).min() > 0.95
    assert runs.train_correct[masks].mean() > 0.99
