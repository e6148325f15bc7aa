"""Agreement of models on identical data, end to end and on made-up predictions."""

import dataclasses

import numpy as np
import pytest

from experiments import paper_numbers
from experiments.command_line import Mistake
from experiments.nondeterminism import EXPERIMENT, PRESETS, check, keys, requests
from experiments.nondeterminism_report import (
    Network,
    Stable,
    augmentation_evidence,
    describe_certain,
    find_answer,
    source_evidence,
)
from experiments.paper_numbers import BOTH, INIT, ORDER, RESNET, TABLE_2, TABLE_3
from jaxinfl import Recipe, plots, recipes
from jaxinfl.training.run import TooManyDiverged
from tests.small_experiments import check_end_to_end

FIGURES = {"figure2a", "figure4"}


@pytest.mark.slow
def test_end_to_end(tmp_path, monkeypatch, capsys):
    config = PRESETS["tiny"]
    results = check_end_to_end(
        EXPERIMENT.main, config, tmp_path, monkeypatch, capsys, figures=FIGURES, runs={"small_mlp", "mlp"}
    )
    assert set(results) == {"small_mlp", "mlp"}
    for network in results.values():
        assert network["control_agreement"] == 1
        assert set(network["sources"]) == {INIT, ORDER, BOTH} and network["tta"]["views"] == "five"
        for stable in (*network["sources"].values(), network["tta"]):
            assert stable["agreement_of_pairs"]["n"] == 3 and stable["accuracy"]["n"] == 3
            assert 0.3 < stable["agreement_of_pairs"]["mean"] < 1
        pairs = np.asarray(network["figure_2a"])[np.triu_indices(3, k=1)]
        assert network["sources"][BOTH]["agreement_of_pairs"]["mean"] == pytest.approx(pairs.mean())
        assert np.mean(network["p"]) == pytest.approx(network["sources"][BOTH]["accuracy"]["mean"])

    # Without TTA the same models are asked for without their weights: another folder, one figure.
    config = dataclasses.replace(config, tta=False, models=("small_mlp",), out=tmp_path / "plain")
    EXPERIMENT.main(config)
    assert not (tmp_path / "plain" / "figure4.png").exists() and (tmp_path / "plain" / "figure2a.png").exists()


def test_keys_differ_in_one_source_each():
    """Rows 0-3 differ in initialization alone, 4-7 in order and augmentation, 8-11 in all; the last two in nothing."""
    drawn = keys(0, 4).data()
    assert drawn.shape == (14, 3, 2)

    def different(part, source):
        return len({tuple(key) for key in drawn[part, source]})

    init, order, both, control = slice(0, 4), slice(4, 8), slice(8, 12), slice(12, 14)
    assert [different(init, source) for source in range(3)] == [4, 1, 1]
    assert [different(order, source) for source in range(3)] == [1, 4, 4]
    assert [different(both, source) for source in range(3)] == [4, 4, 4]
    assert [different(control, source) for source in range(3)] == [1, 1, 1]
    assert (keys(0, 4).data() == drawn).all() and (keys(1, 4).data() != drawn).any()


def test_paper_preset(digits):
    config = PRESETS["paper"]
    assert config.data == "cifar100" and config.models == ("small_inception", "resnet18_cifar") and config.tta
    asked = requests(config, digits)
    assert [request.model for request in asked] == list(config.models)
    assert all(request.masks.all() and request.keep_weights and request.recipe == recipes.CIFAR for request in asked)


def test_paper_numbers():
    """Table 2's rows without augmentation are Table 3's rows in which both differ, but for a digit in two of them."""
    for network, (plain, augmented) in TABLE_2.items():
        both = TABLE_3[network][BOTH]
        assert plain.agreement == both.agreement
        assert abs(plain.accuracy.mean - both.accuracy.mean) <= 0.001
        assert augmented.agreement.mean > plain.agreement.mean and augmented.accuracy.mean > plain.accuracy.mean
    assert len(TABLE_3) == 8 and all(list(sources) == [INIT, ORDER, BOTH] for sources in TABLE_3.values())
    assert str(TABLE_3["DTD", RESNET][ORDER].agreement) == "0.566 ± 0.01"
    assert paper_numbers.TABLE_2B["Flowers", RESNET].accuracy.mean == 0.513


def stable(agreement, accuracy=(0.7, 0.9)):
    return Stable(np.asarray(agreement, float), np.asarray(accuracy, float))


def network(init=(0.9, 0.92), order=(0.89, 0.91), both=(0.88, 0.92), **others):
    return Network(
        sources={INIT: stable(init), ORDER: stable(order), BOTH: stable(both)},
        matrix=np.eye(3),
        right=np.array([1.0, 1.0, 0.5, 0.0]),
        control=1.0,
        **others,
    )


def test_words_follow_from_the_numbers():
    said = find_answer({"toy": network()})
    assert said.answer == (
        "Two models that differ in nothing but their seeds disagree on 10.0% of the test examples, and a model is wrong on 20.0%."
    )
    within = "Their agreement, 0.900, is within that of the tasks and networks of the paper, 0.405 to 0.959."
    assert said.evidence == [within, source_evidence({"toy": network()})]
    assert said.paper.startswith(
        "Models on the same data agree on 40.5% to 95.9% of the test examples, the less the harder"
    )
    high, low = network(both=(0.98, 0.99)), network(both=(0.2, 0.3))
    assert "0.985, is above that of all tasks" in find_answer({"toy": high}).evidence[0]
    assert "0.250, is below that of all tasks" in find_answer({"toy": low}).evidence[0]
    two = find_answer({"toy": high, "other": low})
    assert "disagree on 1.5% to 75.0% of" in two.answer and "0.250 to 0.985, is partly beyond that" in two.evidence[0]


def test_which_source_matters():
    assert source_evidence({"toy": network()}) == (
        "It hardly matters what differs, initialization or data order: mean agreements lie within 0.010 of each other, and pairs of "
        "models spread by up to 0.028."
    )
    differs = (
        "It matters what differs (toy): agreement is 0.605 with different data order and 0.910 with different initialization, "
        "while pairs of models spread by 0.028."
    )
    one = network(order=(0.6, 0.61))
    assert source_evidence({"toy": one}) == source_evidence({"other": network(), "toy": one}) == differs
    alike = network(init=(1, 1), order=(1, 1), both=(1, 1))
    assert "within 0.000 of each other" in source_evidence({"toy": alike})


def test_what_augmentation_changes():
    assert augmentation_evidence({"toy": network()}) == "" == describe_certain("toy", network())
    better = network(augmented=stable((0.95, 0.95), (0.8, 0.84)), augmented_right=np.array([1.0, 1.0, 0.0, 0.0]))
    assert augmentation_evidence({"toy": better, "other": network()}) == (
        "Test-time augmentation changes agreement by +0.050 and accuracy by +0.020, as shares of the test examples."
    )
    assert describe_certain("toy", better) == (
        "With toy the test examples on which all models are right or all wrong go from 75.0% to 100.0%."
    )


def test_figures():
    matrix = np.array([[1.0, 0.9, 0.8], [0.9, 1.0, 0.7], [0.8, 0.7, 1.0]])
    figure = plots.agreement_figure({"one": matrix, "other": matrix}, title="toy")
    assert [text.get_text() for text in figure.axes[0].texts[:3]] == ["1.000", "0.900", "0.800"]
    assert [axes.get_title() for axes in figure.axes[:2]] == ["one", "other"]
    shares = {"without TTA": np.array([0.0, 0.5, 1.0, 1.0]), "with TTA": np.ones(4)}
    for models in (2, 400):
        axes = plots.shares_figure({"net": shares}, models, title="toy").axes[0]
        heights = [[bar.get_height() for bar in bars] for bars in axes.containers]
        assert [sum(each) for each in heights] == [4, 4] and heights[0][-1] == 2 and heights[1][-1] == 4
        assert len(heights[0]) == min(models + 1, 21)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": 2}, "--seeds is 2; it takes a whole number from 3 up"),
        ({"models": ()}, "--models is empty"),
        ({"models": ("mlp", "mlp")}, "--models is mlp mlp; it takes different architectures"),
    ],
)
def test_mistakes(change, message):
    with pytest.raises(Mistake, match=message):
        check(dataclasses.replace(PRESETS["tiny"], **change))


def test_diverged_models_are_a_mistake(tmp_path):
    config = dataclasses.replace(
        PRESETS["tiny"], models=("small_mlp",), recipe=Recipe(epochs=1, learning_rate=1e6), out=tmp_path / "out"
    )
    with pytest.raises(TooManyDiverged, match="11 of 11 finished models diverged"):
        EXPERIMENT.main(config)
