"""Independent programs train the same subsets of a table as jaxinfl and find the same memorization."""

import json

import numpy as np
import pytest

import jaxinfl
from benchmarks import independent_table
from benchmarks.independent_table import Config, compare, our_probabilities, sklearn_probabilities, torch_probabilities


def correlations(models, program, *, as_sklearn):
    config = Config(models=models)
    data = jaxinfl.load_dataset("breast_cancer")
    masks = jaxinfl.draw_subsets(models, data.num_train, ratio=0.7, seed=0)
    ours = [our_probabilities(data, masks, config.recipe, seed, as_sklearn=as_sklearn) for seed in (0, 1)]
    return compare(masks, *ours, program(data, masks, config.recipe))


# A sixth of the models: the noise of a correlation is larger by the root of it.
@pytest.mark.parametrize(("models", "tolerance"), [(64, 0.025), pytest.param(400, 0.01, marks=pytest.mark.slow)])
def test_scikit_learn_finds_the_same_memorization(models, tolerance):
    for score, found in correlations(models, sklearn_probabilities, as_sklearn=True).items():
        assert found["jaxinfl"] > 0.9, score
        assert found["independent"] > found["jaxinfl"] - tolerance, score


@pytest.mark.slow
def test_pytorch_finds_the_same_memorization():
    pytest.importorskip("torch")
    for score, found in correlations(400, torch_probabilities, as_sklearn=False).items():
        assert found["jaxinfl"] > 0.9, score
        assert found["independent"] > found["jaxinfl"] - 0.01, score


def test_memorization_in_numpy_is_that_of_jaxinfl():
    rng = np.random.default_rng(0)
    masks, score = rng.random((20, 7)) < 0.5, rng.random((20, 7))
    ours = jaxinfl.memorization(masks, score)
    np.testing.assert_allclose(independent_table.memorization(masks, score), ours, atol=1e-6)


@pytest.mark.slow
def test_independent_table_runs(tmp_path):
    path = independent_table.main(Config(quick=True, out=tmp_path))
    record = json.loads(path.read_text())
    assert record["config"]["models"] == 40 and "scikit-learn" in record["correlations"]
    for scores in record["correlations"].values():
        assert set(scores) == {"probability", "correct"}
