import json
import math
from dataclasses import dataclass
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from jaxinfl import plots
from jaxinfl.report import save_figure, summarize, write_results


def test_summaries_by_hand():
    assert summarize([1.0, 2.0, math.nan, 6.0]) == {"mean": 3.0, "std": pytest.approx(math.sqrt(7)), "n": 3}
    assert summarize([2.0]) == {"mean": 2.0, "std": None, "n": 1}
    assert summarize([math.nan]) == {"mean": None, "std": None, "n": 0}


@dataclass
class Part:
    path: Path
    sizes: tuple[int, ...]


def test_results_are_plain_json(tmp_path):
    results = {"part": Part(Path("a/b"), (1, 2)), "curve": np.array([0.5, np.nan]), 7: np.int64(3), "inf": math.inf}
    written = json.loads(write_results(tmp_path / "new", results).read_text())
    assert written == {"part": {"path": "a/b", "sizes": [1, 2]}, "curve": [0.5, None], "7": 3, "inf": None}


def curves(rng):
    values = np.sort(rng.random((2, 5, 8)), axis=-1)[..., ::-1].copy()
    values[0, :, 6:] = np.nan
    return values


def test_figures_are_drawn(tmp_path):
    rng = np.random.default_rng(0)
    thresholds = np.linspace(0.1, 0.8, 8)
    figure = plots.consistency_figure(
        thresholds, [25, 50], curves(rng), {50: curves(rng)[1]}, np.arange(8)[::-1] * 3, title="toy"
    )
    left, right = figure.axes[:2]
    assert [len(axes.get_lines()) for axes in (left, right)] == [3, 3]  # the mark at 0.7 is one
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["25", "50", "different subsets again"]
    np.testing.assert_allclose(left.get_lines()[0].get_xdata(), thresholds[:6])
    paths = save_figure(figure, tmp_path, "figure")
    assert [path.name for path in paths] == ["figure.png", "figure.svg"]
    assert matplotlib.image.imread(paths[0]).std() > 0.05
    drawn = paths[1].read_bytes()
    assert b"<text" in drawn
    save_figure(figure, tmp_path, "figure")
    assert paths[1].read_bytes() == drawn


@pytest.mark.parametrize(("pairs", "channels"), [(1, 1), (4, 3)])
def test_gallery(tmp_path, pairs, channels):
    images = np.random.default_rng(0).integers(0, 256, (2, pairs, 8, 8, channels), dtype=np.uint8)
    names = ["a$b", "<c>", "d", "pneumothorax of the left upper lobe"][:pairs]
    figure = plots.pairs_gallery(*images, names, names, names, title="toy")
    save_figure(figure, tmp_path, "gallery")
    assert sum(len(axes.get_images()) for axes in figure.axes) == 2 * pairs


def test_no_pairs_no_pictures(tmp_path):
    empty = np.zeros((0, 8, 8, 1), np.uint8)
    for figure in (
        plots.pairs_gallery(empty, empty, [], [], [], title="toy"),
        plots.pairs_profiles(np.zeros((0, 3)), np.zeros((0, 3)), [], [], [], title="toy"),
        plots.pairs_texts([], [], [], [], [], title="toy"),
    ):
        save_figure(figure, tmp_path, "gallery")


def test_words_that_both_texts_have_are_bold():
    figure = plots.pairs_texts(["a class of"], ["the class $x$"], ["train 1"], ["test 2"], ["0.5"], title="toy")
    left, right = ({text.get_text() for text in axes.texts if text.get_fontweight() == "bold"} for axes in figure.axes)
    assert left == right == {"class"}


def test_profiles_are_drawn_as_they_are():
    train, test = np.random.default_rng(0).normal(size=(2, 4, 5))
    names = [f"train {k}" for k in range(4)]
    figure = plots.pairs_profiles(train, test, names, names, names, title="toy")
    for pair, axes in enumerate(figure.axes[:4]):
        drawn = [line.get_ydata() for line in axes.get_lines()[1:]]
        np.testing.assert_array_equal(drawn, [train[pair], test[pair]])


def test_figure_3_is_drawn(tmp_path):
    shares = np.linspace(0, 1, 5)
    models = np.where(np.eye(5) > 0, np.inf, 20.0)
    models[0, 1] = 2e5
    curve = np.array([0.1, 0.5]), np.array([29.0, 5.0])
    figure = plots.models_needed_figure(shares, models, {1.0: curve}, np.array([1.0, 1.0, 0.5, 0.25]), 4, title="toy")
    left, middle, last = figure.axes[:3]
    assert np.ma.getmaskarray(left.collections[0].get_array()).sum() == 5
    np.testing.assert_array_equal(middle.get_lines()[0].get_xydata(), np.stack(curve, axis=1))
    assert [bar.get_height() for bar in last.patches] == [0, 1, 1, 0, 2]
    paths = save_figure(figure, tmp_path, "figure3")
    assert matplotlib.image.imread(paths[0]).std() > 0.05


def test_coverage_is_drawn(tmp_path):
    figure = plots.coverage_figure({"x": (0.95, 0.93, 0.97), "y": (1.0, 0.9, 1.0)}, 0.95, title="toy")
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["x", "y"]
    assert matplotlib.image.imread(save_figure(figure, tmp_path, "coverage")[0]).std() > 0.05


def test_simulations_are_drawn(tmp_path):
    coverage = {"one": {"a": np.full((2, 3), 0.95), "b": np.full((2, 3), 0.94)}, "other": {"a": np.full((2, 3), 0.9)}}
    points = {"x": (0.1, 0.01), "y": (0.05, 0.02)}
    figure = plots.simulations_figure([25, 50], coverage, 0.95, points, 0.1, points, 0.8, title="toy")
    assert [axes.get_title() for axes in figure.axes] == [
        "one", "other", "False discovery rate", "Power of the planned number",
    ]  # fmt: skip
    assert [text.get_text() for text in figure.axes[2].get_yticklabels()] == ["x", "y"]
    assert matplotlib.image.imread(save_figure(figure, tmp_path, "simulations")[0]).std() > 0.05
