"""The long simulations, short: end to end, and their pieces against what is known."""

import json

import numpy as np
import pytest

from experiments import uncertainty_simulations as simulations
from tests.small_experiments import check_section, run_again, run_here

EXPERIMENT = "experiments.uncertainty"


@pytest.mark.slow
def test_end_to_end_and_again(tmp_path, monkeypatch, capsys):
    out = tmp_path / "results"
    command = (EXPERIMENT, "--preset", "tiny", "--out", str(out))
    status, printed = run_here(monkeypatch, capsys, *command)
    assert status == 0, printed
    assert "Finding 95% intervals cover the true influence in" in printed
    check_section(json.loads((out / "results.json").read_text())["section"])
    assert {path.name for path in out.iterdir()} == {"results.json", "models"} | {
        f"{name}.{kind}" for name in ("simulations", "intervals") for kind in ("png", "svg")
    }
    found = json.loads((out / "results.json").read_text())["results"]
    assert set(found["coverage"]) == {"Newcombe", "Agresti-Caffo", "Welch, float scores"}
    for designs in found["coverage"].values():
        assert len(designs) == 4
        for design, sizes in designs.items():
            assert set(sizes) == {"25", "50"}
            for size, row in sizes.items():
                # 12 subsets of ratio 0.7, used twice, leave 4 without an example: too few for an interval.
                none = (design, size) == ("ratio 0.7, twice", "25")
                assert row["n"] == (0 if none else 13) and (none or 0.8 < row["mean"] <= 1)
    assert (
        len(found["false_discoveries"]) == 18
        and len(found["other_coverage"]) == 4 + 15 + 15 + 15
        and len(found["power"]) == 5
    )
    assert all(row["n"] == 500 and 0.7 < row["mean"] < 0.9 for row in found["power"].values())
    status, printed = run_again(monkeypatch, capsys, *command)
    assert status == 0 and "finished before" in printed
    assert json.loads((out / "results.json").read_text())["results"] == found


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sizes", "50", "25"], "--sizes is 50 25; it takes rising numbers"),
        (["--fdr", "1"], "--fdr is 1"),
        (["--power", "0.01"], "--power is 0.01"),
        (["--repeats", "1"], "--repeats and --power-repeats take whole numbers from 2 up"),
        (["--data", "nowhere.npz"], "nowhere.npz"),
    ],
)
def test_mistakes_get_one_line_and_no_traceback(tmp_path, monkeypatch, capsys, options, message):
    options = ["--preset", "tiny", *options, "--out", str(tmp_path / "out")]
    status, printed = run_here(monkeypatch, capsys, EXPERIMENT, *options)
    assert status == 2 and message in printed, printed


def test_coverage_does_not_depend_on_the_blocks(monkeypatch):
    """One block or several: other draws, the same coverage but for noise."""
    whole = simulations.coverage(40, 0.5, 2, "newcombe", 0.9, 60, 0)
    monkeypatch.setattr(simulations, "_VALUES_AT_ONCE", 40 * 169 * 7)
    parts = simulations.coverage(40, 0.5, 2, "newcombe", 0.9, 60, 0)
    assert whole.shape == parts.shape == simulations.SHARES.shape and whole.mean() == pytest.approx(0.9, abs=0.03)
    np.testing.assert_allclose(whole, parts, atol=0.06)


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=[pytest.mark.slow] if "2000 models" in kind else []) for kind in simulations.KINDS],
)
def test_tests_have_the_influences_they_say(kind):
    """Over many ensembles, pairs said to have an influence have it, and the others have next to none."""
    rows = []
    for seed in range(30):
        masks, score, truth = simulations.draw_tests(kind, seed)
        seen = masks.astype(float)
        difference = seen.T @ score / seen.sum(0)[:, None] - (1 - seen).T @ score / (1 - seen).sum(0)[:, None]
        rows.append((difference[truth].mean() if truth.any() else np.nan, difference[~truth].mean()))
    influential, others = np.array(rows).T
    # Of 20 examples the one that counts leaks a nineteenth of its influence into each of the others.
    assert abs(others.mean() + (0.4 / 19 if "20 examples" in kind else 0)) < 0.02
    if "ratio 0.9" not in kind:  # there the effect is on what the score is made from
        assert np.isnan(influential).all() if "alike" in kind else 0.2 < influential.mean() < 0.41


def test_shuffling_keeps_scores_and_takes_influence():
    rng = np.random.default_rng(0)
    masks = rng.random((50, 4)) < 0.5
    correct = masks.copy()
    shuffled, kept, truth = simulations.shuffle_masks(masks, correct)(1)
    assert kept is correct and not truth.any() and (shuffled.sum(axis=0) == masks.sum(axis=0)).all()
    assert (shuffled != masks).any()
