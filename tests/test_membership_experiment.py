"""The experiment of membership inference, on its smallest preset and with options that do not fit."""

import pytest

from experiments import membership
from tests.small_experiments import check_end_to_end, run_here

pytestmark = pytest.mark.usefixtures("compiled_quickly")


def test_end_to_end(tmp_path, monkeypatch, capsys):
    results = check_end_to_end(
        membership.EXPERIMENT.main,
        membership.PRESETS["tiny"],
        tmp_path,
        monkeypatch,
        capsys,
        figures={"roc", "shadows", "risk", "gallery"},
        runs={"models"},
    )
    assert set(results["attacks"]) == set(membership.ATTACKS)
    assert 0.4 < results["attacks"]["LiRA"]["auc"]["value"] < 0.8
    assert len(results["risk"]) == len(results["memorization"]) == 1437
    assert list(results["over_models"]["LiRA"]) == ["4", "16"]


@pytest.mark.slow
def test_a_table(tmp_path, monkeypatch, capsys):
    status, printed = run_here(
        monkeypatch,
        capsys,
        "experiments.membership",
        *("--preset", "tiny", "--data", "breast_cancer", "--out", str(tmp_path / "out")),
    )
    assert status == 0 and "its area under the curve is" in printed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--num-models", "5"], "--num-models is 5; it takes an even number from 4 up"),
        (["--sizes", "2", "8"], "--sizes is 2 8; it takes rising numbers of models from 4 up"),
        (["--sizes", "4", "512"], "--sizes names 512 models; --num-models is 16"),
        (["--shown", "0"], "--shown is 0"),
        (["--data", "diabetes"], "in which no prediction is right or wrong"),
    ],
)
def test_options_that_do_not_fit(options, message, monkeypatch, capsys, tmp_path):
    status, printed = run_here(
        monkeypatch, capsys, "experiments.membership", "--preset", "tiny", "--out", str(tmp_path), *options
    )
    assert status == 2 and message in printed
