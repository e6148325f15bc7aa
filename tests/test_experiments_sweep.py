"""The sweep of A.3, end to end and on made-up grids."""

import dataclasses

import jax
import numpy as np
import pytest

from experiments.command_line import Mistake
from experiments.sweep import EXPERIMENT, PRESETS, check, draw_validation, requests
from experiments.sweep_report import Findings, find_answer, outcome
from jaxinfl import Recipe, plots, recipes, train_ensemble
from tests.small_experiments import check_end_to_end


def findings(accuracy, test=(0.9, 0.92)):
    """Findings of a grid of 2 ratios x 3 learning rates."""
    return Findings(
        learning_rates=(0.001, 0.01, 0.1),
        decay_ratios=(0.0, 0.01),
        accuracy=np.asarray(accuracy, float),
        num_validation=100,
        num_trained=400,
        test_accuracy=np.asarray(test, float),
    )


def test_end_to_end(tmp_path, monkeypatch, capsys, digits):
    results = check_end_to_end(
        EXPERIMENT.main, PRESETS["tiny"], tmp_path, monkeypatch, capsys, figures={"sweep"}, runs={"grid", "chosen"}
    )
    assert results["chosen"]["learning_rate"] == 0.1 and results["test_accuracy"]["n"] == 2
    cells = results["validation_accuracy"]
    assert [len(line) for line in cells] == [2, 2] and all(cell["n"] == 2 for line in cells for cell in line)
    # 0.001 for two epochs learns little, 0.1 most of it.
    assert cells[0][0]["mean"] < 0.7 < cells[0][1]["mean"] < 1
    assert results["num_validation"] == round(0.2 * digits.num_train)


def test_every_cell_has_its_own_setting_and_the_same_seeds(digits):
    config = PRESETS["paper"]
    grid, final = requests(config, digits)
    rate, decay = grid.overrides["learning_rate"], grid.overrides["weight_decay"]
    assert len(rate) == len(grid.masks) == 56
    np.testing.assert_allclose(np.unique(rate), 10.0 ** np.linspace(-3, 0, 7), rtol=1e-4)
    named = recipes.sweep_grid()
    np.testing.assert_allclose(np.sort(decay), np.sort(named["weight_decay"]), rtol=1e-3)
    np.testing.assert_allclose(np.sort(rate), np.sort(named["learning_rate"]), rtol=1e-4)
    ratios = decay / rate
    np.testing.assert_allclose(np.unique(ratios.round(9))[1:], 10.0 ** np.linspace(-5, -2, 7), rtol=1e-3)
    assert (decay == 0).sum() == 7
    assert final.masks.all() and final.masks.shape == (3, digits.num_train)

    grid = requests(PRESETS["tiny"], digits)[0]
    rows = np.asarray(jax.random.key_data(grid.keys))
    assert (rows[:4] == rows[0]).all() and (rows[4:] == rows[4]).all() and (rows[0] != rows[4]).any()


@pytest.mark.slow
def test_a_cell_is_the_model_that_its_setting_trains(digits):
    """Row 3 of the grid, trained alone by a recipe with its numbers written in."""
    config = dataclasses.replace(PRESETS["tiny"], recipe=Recipe(epochs=1))
    grid = requests(config, digits)[0]
    runs = train_ensemble(
        grid.masks, grid.keys, data=digits, model="small_mlp", recipe=grid.recipe, overrides=grid.overrides
    )
    recipe = dataclasses.replace(config.recipe, learning_rate=0.1, weight_decay=0.001)
    alone = train_ensemble(grid.masks[3:4], grid.keys[3:4], data=digits, model="small_mlp", recipe=recipe)
    np.testing.assert_allclose(alone.test_margin[0], runs.test_margin[3], rtol=1e-3, atol=1e-3)


def test_validation_is_cut_from_the_training_set():
    held_out = draw_validation(PRESETS["digits"], 1437)
    assert held_out.sum() == 287 and (held_out == draw_validation(PRESETS["digits"], 1437)).all()
    with pytest.raises(Mistake, match=r"--validation-share 0\.2 of 2 training examples leaves 0 to choose by"):
        draw_validation(PRESETS["digits"], 2)


def test_choice_by_hand():
    """Best mean; of equals the smallest rate, then the smallest decay; never where a model diverged."""
    best = findings([[[0.5, 0.8, 0.8], [0.5, 0.7, 0.9]], [[0.5, 0.8, 0.8], [0.5, 0.9, 0.7]]])
    np.testing.assert_allclose(best.mean, [[0.5, 0.8, 0.8], [0.5, 0.8, 0.8]])
    assert best.chosen == (0, 1) and best.standard_error == pytest.approx(0.04) and best.as_good == 3
    broken = findings([[[0.5, 0.8, np.nan], [0.5, 0.7, np.nan]], [[0.5, 0.8, 1.0], [0.5, 0.91, np.nan]]])
    assert broken.diverged.tolist() == [[False, False, True], [False, False, True]]
    assert broken.chosen == (1, 1)
    np.testing.assert_allclose(broken.mean, [[0.5, 0.8, 1.0], [0.5, 0.805, np.nan]])


def test_words_follow_from_the_numbers():
    inside = find_answer(findings([[[0.5, 0.8, 0.6], [0.5, 0.7, 0.6]]]))
    assert inside.answer == (
        "Learning rate 0.01 with no weight decay is the best setting, right on 80.0% of the validation examples."
    )
    assert inside.evidence == [
        "Of the 5 other settings 0 lie within a standard error of the best, 4.0 points.",
        "Trained with it on everything, 2 models are right on 91.0 ± 1.4% of the test examples.",
    ]
    assert not inside.paper  # it does not print what it found
    edge = find_answer(findings([[[0.5, 0.8, np.nan], [0.5, 0.7, 0.9]]], test=()))
    assert "Learning rate 0.1 with weight decay 0.001 is the best" in edge.answer
    assert edge.evidence[1] == (
        "It lies at an edge of the grid, in learning rate and weight decay, so a wider one might do better; a model diverged in 1 "
        "of 6 settings."
    )
    assert edge.evidence[2] == "Trained with it on everything, all models diverged, so 0 are left to be tested."
    corner = find_answer(findings([[[0.5, 0.8, 0.8], [0.5, 0.7, 0.9]]]))
    assert corner.evidence[1].startswith(
        "It lies at an edge of the grid of 6 settings, in learning rate and weight decay, so"
    )
    lost = find_answer(findings([[[0.5, 0.8, np.nan], [0.5, 0.7, 0.6]]], test=(0.9,)))
    assert lost.evidence[1:] == [
        "A model diverged in 1 of 6 settings, which cannot be chosen.",
        "Trained with it on everything, 1 model is right on 90.0% of the test examples.",
    ]


def test_figure_marks_the_chosen_and_the_diverged(digits):
    found = findings([[[0.5, 0.8, np.nan], [0.5, 0.7, 0.6]]])
    figure = outcome(found, digits, "small_mlp").figures["sweep"]
    axes = figure.axes[0]
    frames = [(patch.get_xy(), patch.get_hatch()) for patch in axes.patches]
    assert frames == [((1.5, -0.5), "////"), ((0.5, -0.5), None)]
    assert [text.get_text() for text in axes.texts] == ["50.0", "80.0", "50.0", "70.0", "60.0"]
    assert "hatched" in figure.get_suptitle()
    plain = plots.sweep_figure(np.full((1, 1), 0.5), np.zeros((1, 1), bool), ["1"], ["none"], (0, 0), title="toy")
    assert "hatched" not in plain.get_suptitle()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learning_rates": ()}, "--learning-rates is empty; it takes rising numbers from 0 up"),
        ({"learning_rates": (0.1, 0.01)}, "--learning-rates is 0.1 0.01"),
        ({"decay_ratios": (-0.1, 0.01)}, "--decay-ratios is -0.1 0.01"),
        ({"decay_ratios": (float("nan"),)}, "--decay-ratios is nan"),
        ({"repeats": 0}, "--repeats is 0; it takes a whole number from 1 up"),
        ({"final_models": 0}, "--final-models is 0"),
        ({"validation_share": 1.0}, "--validation-share is 1; it takes a share between 0 and 1"),
    ],
)
def test_mistakes(change, message):
    with pytest.raises(Mistake, match=message.replace(".", r"\.")):
        check(dataclasses.replace(PRESETS["tiny"], **change))


def test_all_diverged_is_a_mistake(tmp_path):
    config = dataclasses.replace(PRESETS["tiny"], learning_rates=(1e5,), decay_ratios=(0.0,), out=tmp_path / "out")
    with pytest.raises(Mistake, match="a model diverged in each of the 1 settings"):
        EXPERIMENT.main(config)
