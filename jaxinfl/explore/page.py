"""The HTML file: the content, the scripts and Vega in one piece, and what the page says in words."""

import base64
import functools
import importlib.metadata
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import vl_convert
from markupsafe import Markup

from jaxinfl.explore.content import Explored
from jaxinfl.explore.inputs import Shown
from jaxinfl.files import write_atomically
from jaxinfl.report.page import html_templates

SCRIPTS = ("content", "view", "plot", "detail", "page")
"""Our own scripts, in the order in which they are read."""
_VEGA_LITE = "6.4"
_READING = (
    "The memorization of a training example is the mean score of the models that were trained on it, minus that of the others.",
    "Filled points are told from chance: at most 5% of them are expected to be false. Hollow grey points may be nothing but noise.",
    "The influence of a training example on a test example is the same difference, of the scores on the test example.",
    "Of each example the strongest influences of either sign are shown. Their intervals are wide because the strongest of many are overestimated.",
)

_TEMPLATES = html_templates("jaxinfl.explore")


def write_page(path: Path, content: dict[str, Any], explored: Explored, shown: Shown) -> None:
    """Write the page, in place of an older one as a whole."""
    sheets = [] if shown.sprites is None else [base64.b64encode(sheet).decode() for sheet in shown.sprites.sheets]
    text = _TEMPLATES.get_template("explorer.html.jinja").render(
        title=f"Memorization and influence in {explored.name}",
        summary=_summary(explored),
        reading=_reading(explored),
        notes=[*content["notes"], *_missing(explored)],
        footer=f"Written by jaxinfl {importlib.metadata.version('jaxinfl')}. The plot is drawn by Vega {vl_convert.get_vega_version()}.",
        css=Markup(_read("explorer.css")),
        vega=Markup(_vega()),
        content=Markup(_as_script_json(content | {"plot": _plot()})),
        script=Markup("\n".join(_read(f"{name}.js") for name in SCRIPTS)),
        sheets=sheets,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    # A character that UTF-8 lacks (half of a pair, from a file's name) is no reason to lose the page.
    write_atomically(path, text.encode(errors="replace"))


def _read(name: str) -> str:
    return (files("jaxinfl.explore") / "scripts" / name).read_text(encoding="utf-8")


@functools.cache
def _vega() -> str:
    """Vega as a script that defines the global name `vegaEmbed` and no other."""
    # Asked for `vega` without its wrapper Vega-Embed, release 1.9 of the package gives null.
    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=_VEGA_LITE)
    # The names at the top of the bundle are letters, which would be names of all scripts.
    return "(() => {" + bundle.replace("</script", "<\\/script") + "\n})();"


@functools.cache
def _plot() -> Any:
    """The plot as Vega takes it."""
    return vl_convert.vegalite_to_vega(json.loads(_read("plot.vl.json")), vl_version=_VEGA_LITE)


def _as_script_json(content: dict[str, Any]) -> str:
    """JSON in which no text can end the script that holds it."""
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _summary(explored: Explored) -> str:
    number, fewest, most = explored.num_models, int(np.min(explored.num_in)), int(np.max(explored.num_in))
    subset = f"{fewest:,}" if fewest == most else f"{fewest:,} to {most:,}"
    diverged = f" Models that diverged are left out: {explored.num_diverged:,}." if explored.num_diverged else ""
    accuracy = ""
    if explored.test.votes is not None and explored.test.count:
        accuracy = f" Models are right on {np.mean(explored.test.votes.right):.1%} of them."
    return (
        f"{number:,} models, each trained on a subset of {explored.train.count:,} training examples; every example was in {subset} of these "
        f"subsets. {explored.test.count:,} test examples.{accuracy} The score is the {explored.score.words}.{diverged}"
    )


def _reading(explored: Explored) -> list[str]:
    """How the page is to be read, in whole sentences."""
    words = [*_READING]
    partners = explored.partners
    if partners is not None:
        width, asked = explored.kept_partners, explored.asked_partners
        fewer = f" ({asked} were asked for, but the page has room for {width})" if width < asked else ""
        words.append(f"At most {width} partners of each sign are kept of every example{fewer}.")
        if partners.num_discovered is None:
            words.append("Pairs are not tested, because the subsets of this run are each other's complements.")
        else:
            words.append(
                f"{partners.num_discovered:,} of {explored.train.count * explored.test.count:,} pairs have an influence at a false discovery "
                "rate of 5%. The q-value of a pair is the smallest such rate at which it would still be reported. Dashed frames mark what "
                "is not told from chance."
            )
    if explored.train.votes is not None:
        rule = (
            "the 95% interval puts more than half of the models on one class other than its label"
            if explored.train.votes.other is not None
            else "the 95% interval puts fewer than half of the models on its label"
        )
        words.append(
            f"The label of a training example may be wrong where it contradicts the models trained without it: {rule}."
        )
        words.append("Models that are often wrong contradict many labels that are right.")
    if explored.risk is not None:
        words.append(
            "The membership risk is the probability that a model that was trained on the example scores higher on it than one that was not."
        )
    return words


def _missing(explored: Explored) -> list[str]:
    """What the run does not say, a sentence each."""
    missing = []
    if explored.memorized is None:
        missing.append("This run has no scores of training examples, so there is no memorization.")
    if explored.partners is None:
        missing.append("This run has no scores of test examples, so there are no influential pairs.")
    return missing


__all__ = ["write_page"]
