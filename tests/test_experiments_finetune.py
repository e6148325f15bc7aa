"""Fine-tuning against retraining, end to end and on made-up numbers."""

import dataclasses

import numpy as np
import pytest

from experiments.command_line import Mistake
from experiments.finetune_report import Findings, Network, _judging_table, find_answer, seeds_evidence
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
    one = network((0.8, 0.9), (0.86, 0.86))
    said = find_answer({"toy": one})
    assert said.answer == (
        "Fine-tuning does not replace retraining: fine-tuned models agree with their start on 100.0% of test examples, with "
        "retrained models on 85.0%."
    )
    assert said.evidence == [
        (
            "Retrained and fine-tuned models (toy) agree about as often as two retrained models with different seeds, on 85.0% against "
            "86.0%; spread 7.1 points."
        ),
        "Retrained models are right on 85.0% of the test examples, fine-tuned ones on 85.0%.",
    ]
    assert "on 54.4% to 82.0% of the test examples" in said.paper and "(Section 4.2, Table 1)" in said.paper
    assert "(toy) agree less often than two retrained models" in seeds_evidence(
        {"toy": network((0.7, 0.71), (0.9, 0.91))}
    )
    assert "(toy) agree more often than two retrained models" in seeds_evidence(
        {"toy": network((0.9, 0.91), (0.7, 0.71))}
    )
    far = network((0.9, 0.91), (0.7, 0.71), (0.8, 0.8))
    assert find_answer({"toy": far}).answer.startswith("Fine-tuning may replace retraining: ")
    both = find_answer({"toy": one, "far": far})
    assert both.answer.startswith("Fine-tuning does not replace retraining with 1 of 2 networks: ")
    assert "on 80.0% to 100.0% of test" in both.answer and "(far) agree more often" in both.evidence[0]


def test_one_seed_and_one_example_have_no_spread():
    assert seeds_evidence({"toy": network((0.8,), (0.8,))}).endswith("on 80.0% against 80.0%; spread 0.0 points.")


def test_the_paper_beside_its_own_seeds():
    config = PRESETS["tiny"]
    table = _judging_table(Findings({"toy": network((0.8, 0.9), (0.86, 0.86))}, np.array([1]), 3, config.recipe))
    rows = {row[0]: row[1:3] for row in table.rows}
    assert rows["paper: CIFAR-100, Inception"] == ["0.756 ± 0.01", "0.754 ± 0.00"]
    assert rows["paper: Flowers, ResNet-18"] == ["0.671 ± 0.02", "0.668 ± 0.01"]


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
