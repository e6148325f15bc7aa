"""A run knows its data, model and recipe: nobody says them twice."""

import shutil

import jax
import numpy as np
import pytest
from flax import nnx

import jaxinfl
from jaxinfl import Ensemble, Recipe, RunDirectoryError
from jaxinfl.verify import main
from tests.small_ensembles import keys_of, subsets

RECIPE = Recipe(epochs=1, batch_size=8, normalization=((0.4, 0.3),))


class Importable(nnx.Module):
    def __init__(self, rngs):
        self.norm = nnx.BatchNorm(64, rngs=rngs)
        self.layer = nnx.Linear(64, 3, rngs=rngs)

    def __call__(self, images, train=False):
        return self.layer(self.norm(images.reshape(len(images), -1), use_running_average=not train))


def importable_function(rngs):
    return Importable(rngs)


@pytest.fixture(scope="module")
def saved(toy, tmp_path_factory):
    """The toy data in a file, and as they are loaded from it."""
    path = tmp_path_factory.mktemp("data") / "toy.npz"
    np.savez(path, x_train=toy.train_inputs, y_train=toy.train_targets, x_test=toy.test_inputs, y_test=toy.test_targets)
    return path, jaxinfl.load_dataset(path)


def train(data, model, run_dir=None, **options):
    options = {"recipe": RECIPE, "progress": False, "tune": False, "keep_weights": True} | options
    return jaxinfl.train_ensemble(subsets(), keys_of(6), data=data, model=model, run_dir=run_dir, **options)


@pytest.mark.parametrize("model", ["small_mlp", Importable, importable_function])
def test_a_run_predicts_again(saved, tmp_path, model):
    train(saved[1], model, tmp_path / "run")
    runs = Ensemble.open(tmp_path / "run")
    again = runs.predict()
    for name in ("train_prediction", "test_prediction", "train_margin", "test_margin"):
        np.testing.assert_array_equal(getattr(again, name), getattr(runs, name), err_msg=name)
    assert (runs.predict(views="five").test_margin != runs.test_margin).any()


def test_other_examples(saved, tmp_path):
    data = saved[1]
    runs = train(data, Importable, tmp_path / "run")
    other = runs.predict(data.train_inputs[:5], data.train_targets[:5])
    np.testing.assert_array_equal(other.test_prediction, runs.train_prediction[:, :5])
    np.testing.assert_allclose(other.test_margin, runs.train_margin[:, :5], atol=1e-5)
    with pytest.raises(ValueError, match="Only one of inputs and targets is given"):
        runs.predict(data.train_inputs[:5])


def test_only_rows_of_the_ensemble_are_predicted(saved):
    runs = train(saved[1], "small_mlp")
    assert len(runs.predict().test_margin) == runs.num_models == 6


@pytest.mark.parametrize("rows", [[4, 1], [False, True, False, False, True, True]])
def test_some_of_the_models_predict(saved, rows):
    runs = train(saved[1], "small_mlp")
    np.testing.assert_array_equal(runs.predict(models=rows).test_margin, runs.test_margin[rows])
    with pytest.raises(TypeError, match="rows of the ensemble"):
        runs.predict(models=np.array([0.5]))
    assert runs.data_fingerprint == saved[1].fingerprint and "cpu" in runs.device


def test_what_is_not_found_is_asked_for(toy, saved, tmp_path):
    path, data = saved
    arrays = train(toy, "small_mlp", tmp_path / "arrays")
    with pytest.raises(RunDirectoryError, match=r"'toy' of the run was made from arrays\. Give it again: data="):
        arrays.predict()
    np.testing.assert_array_equal(arrays.predict(data=toy).test_margin, arrays.test_margin)

    def inside(rngs):
        return Importable(rngs)

    unnamed = train(data, inside, tmp_path / "unnamed")
    with pytest.raises(RunDirectoryError, match=r"cannot be imported by a name\. Give it again: model="):
        unnamed.predict()
    np.testing.assert_array_equal(unnamed.predict(model=inside).test_margin, unnamed.test_margin)
    with pytest.raises(RunDirectoryError, match="small_mlp is not the model of the run: it computes something else"):
        unnamed.predict(model="small_mlp")
    with pytest.raises(RunDirectoryError, match="is not the data set of the run"):
        unnamed.predict(model=inside, data=jaxinfl.load_dataset("digits"))

    moved = tmp_path / "moved.npz"
    shutil.copy(path, moved)
    runs = train(jaxinfl.load_dataset(moved), "small_mlp", tmp_path / "moved")
    moved.unlink()
    with pytest.raises(RunDirectoryError, match=r"'moved' of the run cannot be loaded again.*data="):
        runs.predict()


def test_a_run_without_weights_says_so(saved):
    with pytest.raises(RunDirectoryError, match="keeps no weights"):
        train(saved[1], "small_mlp", keep_weights=False).predict()


def test_repair_finds_data_and_model_by_itself(saved, tmp_path, capsys):
    runs = train(saved[1], Importable, tmp_path / "run")
    expected = np.array(runs.test_margin)
    (tmp_path / "run" / "status" / "c" / "0").unlink()
    assert main([str(tmp_path / "run"), "--repair"]) == 0, capsys.readouterr().err
    np.testing.assert_array_equal(Ensemble.open(tmp_path / "run").test_margin, expected)


def test_the_cost_is_told_without_training(saved, tmp_path, monkeypatch):
    monkeypatch.setattr("jaxinfl.training.workforce.finished_shards", None)
    options = {"data": saved[1], "model": "small_mlp", "recipe": RECIPE}
    cost = jaxinfl.training_cost(subsets(), keys_of(6), **options, run_dir=tmp_path / "run", keep_weights=True)
    assert cost.num_models == 6 and cost.finished == 0 and cost.seconds > 0 and cost.memory_bytes > 0
    assert not (tmp_path / "run").exists()
    monkeypatch.undo()
    runs = train(saved[1], "small_mlp", tmp_path / "run")
    cost = jaxinfl.training_cost(subsets(), keys_of(6), **options, run_dir=tmp_path / "run")
    assert cost.finished == runs.num_models == 6 and cost.seconds == 0
    with pytest.raises(RunDirectoryError, match="differs in keys"):
        jaxinfl.training_cost(subsets(), jax.random.split(jax.random.key(9), 6), **options, run_dir=tmp_path / "run")
