"""What notebooks show: valid HTML in which text stays text, images are PNGs, and NaN is undefined."""

import base64
import io
import sys
import types
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from rich.console import Console

import jaxinfl
from jaxinfl import Dataset, Ensemble, plots
from jaxinfl.notebook import Thumbnail, html_facts, html_table, show_figures
from jaxinfl.training import progress
from tests.kinds_of_data import KINDS
from tests.stored_runs import NAMES, STORED

HOSTILE = "<script>alert(1)</script>\"'&"
VOID = {"img", "br"}

pytestmark = pytest.mark.filterwarnings("ignore:.* diverged and are left out:RuntimeWarning")


class Reader(HTMLParser):
    """The text and the images of a page, of which every element must be closed in order."""

    def __init__(self, page):
        super().__init__()
        self.open, self.text, self.images, self.tags = [], [], [], set()
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        if tag == "img":
            self.images.append(dict(attributes)["src"])
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def read(value) -> Reader:
    found = Reader(value if isinstance(value, str) else value._repr_html_())
    assert found.tags <= {"div", "b", "table", "thead", "tbody", "tr", "th", "td", "img"}
    return found


def test_cells():
    found = read(html_table(["a", HOSTILE], [[np.nan, HOSTILE], [1, 0.123456], [None, np.float32(2)]], note=HOSTILE))
    assert found.text == ["a", HOSTILE, "undefined", HOSTILE, "1", "0.1235", "2", HOSTILE]
    assert read(html_facts("t", {HOSTILE: 1})).text == ["t", HOSTILE, "1"]
    assert read(html_table([], [])).text == []


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("side", [1, 8, 300])
def test_a_thumbnail_has_the_pixels(channels, side):
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, channels)).astype(np.uint8)
    (source,) = read(html_table(["x"], [[Thumbnail(pixels)]])).images
    image = Image.open(io.BytesIO(base64.b64decode(source.removeprefix("data:image/png;base64,"))))
    assert max(image.size) == min(side, 96)
    if side <= 96:
        shown = np.asarray(image).reshape(side, side, -1)
        np.testing.assert_array_equal(shown, pixels if channels in (3, 4) else pixels[:, :, :1])


@pytest.mark.parametrize("kind", KINDS)
def test_data_of_every_kind(kind):
    data = KINDS[kind].data
    found = read(data)
    assert str(data.num_train) in found.text and data.task.name in found.text
    assert len(found.images) == (8 if data.are_images else 0)
    assert len(data._repr_html_()) < 50_000


def test_numbers_have_the_names_of_their_columns():
    found = read(jaxinfl.load_dataset("iris"))
    assert any(text.startswith("sepal length (cm) 5.1, sepal width (cm) 3.5, petal length") for text in found.text)


def test_names_of_classes_and_data_stay_text():
    targets = np.array([HOSTILE, "b"] * 3)
    data = Dataset(
        train_inputs=np.zeros((6, 4, 4, 3), np.uint8),
        train_targets=targets,
        test_inputs=np.zeros((6, 4, 4, 3), np.uint8),
        test_targets=targets,
        name=HOSTILE,
    )
    found = read(data)
    assert found.text.count(HOSTILE) == 3 and f"Dataset {HOSTILE}" in found.text


def test_long_names_and_many_classes_are_shortened():
    targets = np.array([f"{number:03}" + "x" * 500 for number in range(300)])
    inputs = np.zeros((300, 4000), np.float32)
    data = Dataset(train_inputs=inputs, train_targets=targets, test_inputs=inputs, test_targets=targets)
    assert len(data._repr_html_()) < 10_000


@pytest.mark.parametrize("name", NAMES)
def test_every_run(name):
    runs = Ensemble.open(STORED / name)
    for shown in (runs, runs[:1], runs.with_diverged()):
        title = repr(shown).splitlines()[0]
        found = read(shown)
        assert found.text[0] == title and str(STORED / name) in found.text
    # Every fact of the terminal is there, too.
    assert all("".join(line.split()) in "".join("".join(found.text).split()) for line in repr(shown).splitlines())


def test_judgements():
    runs = Ensemble.open(STORED / "classification_images")
    plan = jaxinfl.plan(runs)
    assert plan.text in read(plan).text and "undefined" in read(plan).text
    found = jaxinfl.discoveries(runs, "correct", fdr=0.05)
    assert f"0 of {found.num_tests} tested" in "".join(read(found).text)
    result = jaxinfl.membership(runs)
    assert "AUC" in read(result).text and f"{result.auc.value:.4g}" in read(result).text
    assert "Lira(" in "".join(read(jaxinfl.membership(runs, method=jaxinfl.Lira(offline="upper_tail"))).text)


def test_many_discoveries_are_the_first_ten():
    rng = np.random.default_rng(0)
    masks = jaxinfl.draw_subsets(200, 20)
    score = np.repeat(masks[:, :2], 20, axis=1) ^ (rng.random((200, 40)) < 0.1)
    found = jaxinfl.discoveries(masks, score)
    page = read(found)
    assert len(found) >= 40 and page.text.count(str(len(found))) == 0
    assert f"{len(found) - 10} more pairs are not shown here." in "".join(page.text)


def test_rates_of_a_large_membership_are_not_computed(monkeypatch):
    result = jaxinfl.membership(Ensemble.open(STORED / "from_scores"))
    monkeypatch.setattr("jaxinfl.privacy.result._SHOWN_SIZE", result.score.size - 1)
    assert ".auc" in "".join(read(result).text) and "_curve" not in vars(result)


def test_plots_are_figures():
    functions = {name: getattr(plots, name) for name in plots.__all__ if name.endswith("_figure")}
    assert len(functions) > 10
    for name, function in functions.items():
        assert function.__annotations__["return"] is Figure, name


@pytest.mark.parametrize(
    ("terminal", "notebook", "widgets", "shown"),
    [
        (True, False, False, True),
        (False, True, True, True),
        (False, True, False, False),
        (False, False, True, False),
    ],
)
def test_the_progress_bar_is_shown_on_terminals_and_in_notebooks(monkeypatch, terminal, notebook, widgets, shown):
    class Place(Console):
        def __init__(self, **_):
            super().__init__(file=io.StringIO(), force_terminal=terminal)
            self.is_jupyter = notebook

    # Flax imports IPython where it is installed; the bar must not.
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    monkeypatch.setattr(progress, "Console", Place)
    monkeypatch.setattr(progress, "find_spec", {"ipywidgets": widgets or None}.get)
    assert progress.TrainingProgress(3, 0)._bar.disable is not shown
    assert progress.TrainingProgress(3, 0, shown=False)._bar.disable
    assert "IPython" not in sys.modules


@pytest.mark.parametrize("chosen", [False, True])
def test_figures_are_shown_unless_the_user_chose_how(monkeypatch, chosen):
    """IPython is no dependency, so a stand-in has the three things that are asked of it."""
    formatters = {"image/png": {Figure: "svg, please"} if chosen else {}}
    shell = types.SimpleNamespace(display_formatter=types.SimpleNamespace(formatters=formatters))
    selected = []
    tools = types.ModuleType("IPython.core.pylabtools")
    tools.select_figure_formats = lambda given, formats: selected.append((given, formats))
    show_figures(Figure)  # outside of IPython
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "IPython.core", types.ModuleType("IPython.core"))
    monkeypatch.setitem(sys.modules, "IPython.core.pylabtools", tools)
    show_figures(Figure)
    assert selected == ([] if chosen else [(shell, {"png"})])
