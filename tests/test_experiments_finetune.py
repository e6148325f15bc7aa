"""Fine-tuning against retraining, end to end and on made-up numbers."""

import dataclasses

import numpy as np
import pytest

from experiments.command_line import Mistake
from experiments.finetune_report import Network, describe_paper, finding
from experiments.finetune_vs_retrain import EXPERIMENT, PRESETS, check, draw_dropped, fine_tuning, last_rate, requests
from jaxinfl import Ensemble, Recipe, plots, recipes
from jaxinfl.training.run import TooManyDiverged
from tests.small_experiments import check_end_to_end


@pytest.mark.slow
def test_end_to_end(tmp_path, monkeypatch, capsys, digits):
    runs = {f"small_mlp-{kind}" for kind in ("trained", "finetuned", "retrained")}
    config = PRESETS["tiny"]
    results = check_end_to_end(EXPERIMENT.main, config, tmp_path, monkeypatch, capsys, figures={"agreement"}, runs=runs)
    numbers = results["networks"]["small_mlp"]
    sizes = {kind: number["n"] for kind, number in numbers.items()}
    assert sizes == {
        "retrained_with_tuned": 4, "between_retrained": 2, "between_tuned": 2, "tuned_with_start": 4,
        "retrained_accuracy": 4, "tuned_accuracy": 4, "trained_accuracy": 2,
    }  # fmt: skip
    assert numbers["tuned_with_start"]["mean"] > numbers["retrained_with_tuned"]["mean"] > 0.5

    tuned = Ensemble.open(tmp_path / "results" / "small_mlp-finetuned")
    left_out = draw_dropped(config, digits.num_train)
    assert results["dropped"] == left_out.tolist()
    # Row k * seeds + s: seed s without example k.
    for row, mask in enumerate(tuned.masks):
        assert np.flatnonzero(~mask).tolist() == [left_out[row // 2]]
    trained = Ensemble.open(tmp_path / "results" / "small_mlp-trained")
    agree = [(tuned.test_prediction[row] == trained.test_prediction[row % 2]).mean() for row in range(4)]
    assert numbers["tuned_with_start"]["mean"] == pytest.approx(np.mean(agree))


def test_fine_tuning_by_hand():
    """6 % of the epochs, at the last rate of a stepwise schedule, at the average end of another."""
    config = PRESETS["paper"]
    tuning = fine_tuning(config)
    assert config.recipe == recipes.CIFAR and tuning.epochs == 12 and tuning.schedule == "constant"
    assert tuning.learning_rate == pytest.approx(1e-4) and tuning.weight_decay == 5e-4 and tuning.flip
    short = fine_tuning(dataclasses.replace(config, recipe=Recipe(epochs=3)))
    assert short.epochs == 1
    # Mean of 0.1 (1 + cos(pi t)) / 2 over t from 2/3 to 1: 0.05 (1 - 3 sin(2 pi / 3) / pi).
    assert short.learning_rate == pytest.approx(0.05 * (1 - 3 * np.sqrt(3) / 2 / np.pi), rel=1e-3)
    assert last_rate(Recipe(epochs=10, schedule="linear"), 5) == pytest.approx(0.025, rel=1e-4)
    assert fine_tuning(dataclasses.replace(config, finetune_rate=0.5)).learning_rate == 0.5


def test_a_seed_keeps_its_key_whatever_is_left_out(digits):
    config = dataclasses.replace(PRESETS["tiny"], seeds=3, num_dropped=4)
    trained, tuned, retrained = requests(config, digits)
    drawn = retrained.keys.data().reshape(4, 3, -1)
    assert (drawn == drawn[:1]).all() and len({tuple(key) for key in drawn[0]}) == 3
    assert trained.masks.all() and trained.keep_weights and (tuned.masks == retrained.masks).all()
    assert (~tuned.masks).sum(axis=1).tolist() == [1] * 12


def network(own, seeds, start=(1.0, 1.0)):
    own, seeds, start = (np.asarray(values, float) for values in (own, seeds, start))
    return Network(own, seeds, seeds, start, own, own, own)


def test_words_follow_from_the_numbers():
    assert finding("toy", network((0.8, 0.9), (0.86, 0.86))) == (
        "With toy retrained and fine-tuned models agree on 0.850 of the test examples, about as often as two retrained models "
        "with different seeds do (0.860, spread 0.071). A fine-tuned model says the same as the one that it started from on "
        "1.000: it is nearer to its start than to a model without the example."
    )
    assert "less often than two retrained models" in finding("toy", network((0.7, 0.71), (0.9, 0.91)))
    assert "more often than two retrained models" in finding("toy", network((0.9, 0.91), (0.7, 0.71)))
    assert "no nearer to its start" in finding("toy", network((0.9, 0.91), (0.7, 0.71), (0.8, 0.8)))


def test_the_paper_beside_its_own_seeds(digits):
    words = describe_paper(digits)
    assert "0.756 on CIFAR-100 with Inception (two seeds of Table 2b: 0.754)" in words
    assert "0.671 on Flowers with ResNet-18 (two seeds of Table 2b: 0.668)" in words


def test_figure_shows_every_value():
    groups = {"a": np.array([0.1, 0.2, 0.3]), "b": np.array([0.5])}
    figure = plots.strips_figure({"one": groups, "other": groups}, ylabel="agreement", title="toy")
    dots = [line for line in figure.axes[0].get_lines() if line.get_marker() == "."]
    assert [sorted(line.get_ydata()) for line in dots] == [[0.1, 0.2, 0.3], [0.5]]
    assert figure.axes[0].get_ylabel() == "agreement" and len(figure.axes) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": 1}, "--seeds is 1; it takes a whole number from 2 up"),
        ({"num_dropped": 0}, "--num-dropped is 0"),
        ({"finetune_share": 0.0}, "--finetune-share is 0; it takes a share above 0"),
        ({"models": ()}, "--models is empty"),
        ({"recipe": Recipe(epochs=0)}, "--recipe.epochs is 0"),
    ],
)
def test_mistakes(change, message):
    with pytest.raises(Mistake, match=message):
        check(dataclasses.replace(PRESETS["tiny"], **change))


def test_too_many_left_out():
    with pytest.raises(Mistake, match="--num-dropped is 9; there are 9 training examples"):
        draw_dropped(dataclasses.replace(PRESETS["tiny"], num_dropped=9), 9)


def test_diverged_models_are_a_mistake(tmp_path):
    config = dataclasses.replace(PRESETS["tiny"], recipe=Recipe(epochs=1, learning_rate=1e6), out=tmp_path / "out")
    with pytest.raises(TooManyDiverged, match="2 of 2 finished models diverged"):
        EXPERIMENT.main(config)
