"""Figure 1 from twins of published runs: the command that somebody with the files types."""

import sys

import numpy as np
import pytest

import jaxinfl
from experiments import published_runs
from jaxinfl.report import read_results
from tests import twins
from tests.small_experiments import check_section, check_width


@pytest.fixture(scope="module")
def twin():
    return twins.make_twin(models=120, train=30, test=12)


@pytest.fixture(scope="module")
def folders(twin, tmp_path_factory):
    root = tmp_path_factory.mktemp("published")
    twins.write_feldman_zhang(twin, root / "cifar100")
    twins.write_datamodels_data(twin, root / "datamodels")
    return root


def run(monkeypatch, *options):
    monkeypatch.setattr(sys, "argv", ["published_runs", *map(str, options)])
    return published_runs.launch()


def test_figure_1_of_feldman_and_zhang(twin, folders, tmp_path, monkeypatch, capsys):
    influence = jaxinfl.influence(twin.masks, twin.correct("test"))
    memorization = jaxinfl.memorization(twin.masks, twin.correct())
    rows, columns = np.nonzero((influence >= 0.15) & (memorization >= 0.25)[:, None])
    pairs = twins.write_pairs(
        tmp_path,
        tr_idx=rows,
        tt_idx=columns,
        infl=influence[rows, columns].astype(np.float64),
        mem=memorization[rows].astype(np.float64),
    )
    out = tmp_path / "out"
    options = ["--path", folders / "cifar100" / "0.7", "--sizes", 20, 60, "--pairs", pairs, "--out", out]
    assert run(monkeypatch, *options) == 0
    printed = capsys.readouterr().out
    check_width(printed)
    printed = " ".join(printed.split())
    assert "120 models of" in printed and "TensorFlow Datasets" in printed and "models per estimate" in printed
    assert "(IOU 1.00); rank correlation of their influences 1.00" in printed
    results = read_results(out)
    check_section(results["section"])
    assert results["section"]["finding"]["answer"] in printed and len(results["section"]["tables"][0]["rows"]) == 2
    runs = jaxinfl.read_run(folders / "cifar100", "feldman_zhang")
    curve = jaxinfl.iou_curve(runs, "correct", num_models=[20, 60], thresholds=results["thresholds"])
    found = [[each["mean"] for each in results["iou"][size]] for size in ("20", "60")]
    np.testing.assert_allclose(np.array(found, float), curve.mean)
    assert results["released_pairs"]["iou"] == 1 and results["models"] == 120
    assert (out / "figure1.png").read_bytes().startswith(b"\x89PNG") and (out / "figure1.svg").is_file()


def test_margins_of_datamodels_in_their_unit(folders, tmp_path, monkeypatch, capsys):
    path = folders / "datamodels" / "train_masks_50pct.npy"
    options = ["--path", path, "--score", "top_margin", "--models", 80, "--min-memorization", "None", "--sizes", 20, 40]
    assert run(monkeypatch, *options, "--out", tmp_path) == 0
    results = read_results(tmp_path)
    assert results["models"] == 80 and results["thresholds"][-1] > 1.5
    assert [row[0] for row in results["section"]["tables"][0]["rows"]] == ["20", "40"]
    assert " in top_margin" in results["section"]["finding"]["answer"]
    assert results["section"]["finding"]["answer"] in " ".join(capsys.readouterr().out.split())


def test_a_users_own_runs_of_test_margins_alone(twin, tmp_path, monkeypatch, capsys):
    twins.write_datamodels(twin, tmp_path / "own")
    options = ["--path", tmp_path / "own", "--score", "top_margin", "--sizes", 20, "--out", tmp_path / "out"]
    assert run(monkeypatch, *options) == 2 and "have none of the train examples" in " ".join(
        capsys.readouterr().out.split()
    )
    assert run(monkeypatch, *options, "--min-memorization", "None") == 0
    results = read_results(tmp_path / "out")
    assert results["config"]["score"] == "top_margin" and results["config"]["repeats"] == 10 and results["command"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--path", "nowhere"], "there is no"),
        (["--path", "cifar100", "--score", "margin"], "--score is 'margin'; it takes one of 'correct'"),
        (["--path", "cifar100", "--models", "900"], "--models is 900"),
        (["--path", "cifar100", "--sizes", "100"], "num_models"),
        (["--path", "cifar100", "--layout", "quanda"], "layout is 'quanda'; it takes"),
    ],
)
def test_mistakes_end_in_one_line(folders, tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(folders)
    assert run(monkeypatch, *options, "--out", tmp_path / "out") == 2
    assert message in " ".join(capsys.readouterr().out.split()) and not (tmp_path / "out").exists()
