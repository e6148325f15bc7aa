"""A run that is there gets more models: they are trained, and nothing of the old ones is touched."""

import dataclasses

import jax
import numpy as np
import pytest

import jaxinfl
from jaxinfl import Ensemble, RunDirectoryError
from jaxinfl.verify import main, verify
from tests.small_ensembles import (
    ARRAYS,
    RECIPE,
    TINY_CNN,
    assert_same,
    keys_of,
    stop_after_one_shard,
    subsets,
    train,
)

MASKS, KEYS = subsets(9), keys_of(9)
FIRST = slice(0, 4)


def weights_equal(one, other):
    for left, right in zip(jax.tree.leaves(one.weights()), jax.tree.leaves(other.weights()), strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.fixture(scope="module")
def whole(toy):
    return train(MASKS, KEYS, toy, keep_weights=True)


def begin(toy, path, **options):
    return train(MASKS[FIRST], KEYS[FIRST], toy, run_dir=path, keep_weights=True, shard_size=2, **options)


def files(path):
    return {file.relative_to(path): file.stat().st_mtime_ns for file in path.rglob("*") if file.is_file()}


def test_more_rows_are_trained_and_the_old_ones_stay(toy, whole, tmp_path):
    """Rows are added in one step and in a second one, even where the weights are not asked for again."""
    path = tmp_path / "run"
    begin(toy, path)
    before = files(path)
    runs = train(MASKS[:7], KEYS[:7], toy, run_dir=path)
    assert_same(runs, whole, other_rows=slice(0, 7))
    assert runs.complete and list(runs.model_index) == list(range(7))
    assert before.items() <= files(path).items(), "a file of the old run was touched"
    runs = train(MASKS, KEYS, toy, run_dir=path)
    assert_same(runs, whole)
    weights_equal(runs, whole)
    np.testing.assert_array_equal(runs.masks, MASKS)
    np.testing.assert_array_equal(runs.key_data, whole.key_data)
    np.testing.assert_array_equal(runs.predict(data=toy, model=TINY_CNN).test_margin, whole.test_margin)
    assert_same(Ensemble.open(path), whole)
    assert verify(path) == []


def test_killed_on_the_way_the_old_run_opens(toy, whole, tmp_path):
    path = tmp_path / "run"
    begin(toy, path)
    with stop_after_one_shard():
        train(MASKS, KEYS, toy, run_dir=path, shard_size=2)
    runs = Ensemble.open(path)
    assert_same(runs, whole, other_rows=slice(0, 6))
    assert runs.num_models == 6 and not runs.complete
    assert_same(train(MASKS, KEYS, toy, run_dir=path), whole)


def test_a_part_of_the_rows_that_is_never_begun_leaves_the_run_complete(toy, tmp_path, monkeypatch):
    path = tmp_path / "run"
    begin(toy, path)
    with monkeypatch.context() as patch:
        patch.setattr("jaxinfl.training.run.describe_run", None)
        with pytest.raises(TypeError):
            train(MASKS, KEYS, toy, run_dir=path)
    assert Ensemble.open(path).complete and Ensemble.open(path).num_models == 4


def test_runs_in_parts_are_extended(toy, whole, tmp_path):
    path = tmp_path / "run"
    for part in ((1, 2), (2, 2)):
        begin(toy, path, part=part)
    runs = train(MASKS, KEYS, toy, run_dir=path)
    assert_same(runs, whole)
    weights_equal(runs, whole)
    with pytest.raises(RunDirectoryError, match=r"in parts, which cannot be extended by parts"):
        train(subsets(12), keys_of(12), toy, run_dir=path, part=(1, 2))


def test_values_a_model_are_extended(toy, tmp_path):
    rates = np.linspace(0.01, 0.1, 9)
    expected = train(MASKS, KEYS, toy, overrides={"learning_rate": rates})
    path = tmp_path / "run"
    train(MASKS[FIRST], KEYS[FIRST], toy, run_dir=path, overrides={"learning_rate": rates[FIRST]})
    runs = train(MASKS, KEYS, toy, run_dir=path, overrides={"learning_rate": rates})
    assert_same(runs, expected)
    np.testing.assert_array_equal(runs.overrides["learning_rate"], expected.overrides["learning_rate"])


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ("fewer", "holds a run of 4 models, but masks and keys have 3"),
        ("another mask", "differs in masks"),
        ("another key", "differs in keys"),
        ("another recipe", r"differs in recipe \(epochs\)"),
    ],
)
def test_what_is_no_extension_is_refused(toy, tmp_path, change, match):
    begin(toy, tmp_path / "run")
    masks, keys, options = MASKS.copy(), KEYS, {}
    if change == "fewer":
        masks, keys = masks[:3], keys[:3]
    elif change == "another mask":
        masks[0, 0] ^= True
    elif change == "another key":
        keys = keys_of(9, seed=1)
    else:
        options = {"recipe": dataclasses.replace(RECIPE, epochs=3)}
    with pytest.raises(RunDirectoryError, match=match):
        train(masks, keys, toy, run_dir=tmp_path / "run", **options)
    assert Ensemble.open(tmp_path / "run").num_models == 4


def test_a_lost_extension_is_noticed(toy, tmp_path):
    path = tmp_path / "run"
    begin(toy, path)
    train(MASKS[:7], KEYS[:7], toy, run_dir=path)
    train(MASKS, KEYS, toy, run_dir=path)
    (path / "rows-4-to-7").rename(tmp_path / "elsewhere")
    with pytest.raises(RunDirectoryError, match=r"lacks the folder of models 4 to 6\. Bring it back"):
        Ensemble.open(path)


def test_extensions_are_verified_and_repaired(toy, tmp_path, capsys):
    data = tmp_path / "toy.npz"
    np.savez(data, x_train=toy.train_inputs, y_train=toy.train_targets, x_test=toy.test_inputs, y_test=toy.test_targets)
    loaded, path = jaxinfl.load_dataset(data), tmp_path / "run"
    options = {"model": "small_mlp", "run_dir": path}
    train(MASKS[FIRST], KEYS[FIRST], loaded, **options)
    expected = {name: np.array(getattr(train(MASKS, KEYS, loaded, **options), name)) for name in ARRAYS}
    for damaged in (path / "status" / "c" / "0", path / "rows-4-to-9" / "test_margin" / "c" / "0" / "0"):
        damaged.unlink()
    assert main([str(path)]) == 1
    assert "rows-4-to-9/test_margin/c/0/0: missing" in capsys.readouterr().out
    assert main([str(path), "--repair"]) == 0, capsys.readouterr().err
    runs = Ensemble.open(path)
    for name, values in expected.items():
        np.testing.assert_array_equal(getattr(runs, name), values)
    assert verify(path) == []
