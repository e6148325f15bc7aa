"""The paper's page of the documentation: every figure and table, computed again, beside the paper's numbers.

    python -m experiments.paper && python -m experiments.paper_page      docs/paper.md and its figures, from results/paper

Nothing is trained: the numbers are those that the experiments wrote.
"""

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from experiments.paper import EXPERIMENTS, read_section
from jaxinfl.report import Section, read_results

_TAIL = "python -m experiments.paper && python -m experiments.paper_page"


@dataclass(frozen=True)
class Config:
    """Options of the command line."""

    results: Path = Path("results/paper")
    """Folder into which `python -m experiments.paper` wrote its results."""
    docs: Path = Path("docs")
    """Folder of the documentation, which holds paper.md and its figures."""


def main(config: Config) -> int:
    """Write the page and copy its figures; returns 0, or 2 where an experiment has no results."""
    results: dict[str, dict[str, Any]] = {}
    for name in EXPERIMENTS:
        found = read_results(config.results / name)
        if found is None:
            print(
                f"{config.results / name} holds no results. Run `python -m experiments.paper` first.", file=sys.stderr
            )
            return 2
        results[name] = found
    sections = {name: read_section(found["section"]) for name, found in results.items()}
    for name, section in sections.items():
        for illustration in section.illustrations:
            source = config.results / name / f"{illustration.name}.png"
            shutil.copyfile(source, config.docs / figure_name(name, illustration.name))
    text = [write_head(results[EXPERIMENTS[0]]), *(write_section(name, section) for name, section in sections.items())]
    (config.docs / "paper.md").write_text("\n".join(text))
    return 0


def figure_name(experiment: str, illustration: str) -> str:
    """Name of a figure's file in the documentation, which tells two figures of one name apart."""
    # The first page and the README show these two as well.
    shown = experiment == "cifar100_subsets" and illustration in ("figure1", "gallery")
    return f"{illustration}.png" if shown else f"paper_{experiment}_{illustration}.png"


def write_head(results: dict[str, Any]) -> str:
    """What stands above the first section: what the page is, and where its numbers come from."""
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    return f"""# The paper, computed again

Doubov et al., [*How many trained neural networks are needed for influence estimation in modern deep
learning?*](https://openreview.net/forum?id=s5aYvDauYG), has six figures and four tables. Each of them stands here, computed on 8x8 digits by
small networks, beside the paper's numbers. The scale differs: digits are far easier than CIFAR-100, so that numbers cannot be compared one to
one. What can be compared is how they change with the number of models. `--preset paper` runs the paper's own data, networks and recipes,
which need a GPU for days and were not run yet.

Two commands made this page, its numbers and its figures, in 4 minutes on 2 cores ({results["date"][:10]}, {results["device"]}, {versions}):

    {_TAIL}

[What the numbers mean](ideas_influence.md) explains the terms, and [how many models do I need?](how_many_models.md) answers the title's question for data
of your own.
"""


def write_section(name: str, section: Section) -> str:
    """One experiment in Markdown: its question, its answer with the evidence, what the paper found, tables and figures."""
    finding = section.finding
    lines = [f"## {section.title}", "", section.claim, "", section.setting, "", f"**{finding.answer}**", ""]
    lines += [f"- {sentence}" for sentence in finding.evidence]
    lines += ["", *([f"*The paper:* {finding.paper}", ""] if finding.paper else [])]
    for illustration in section.illustrations:
        sentences = illustration.caption.removesuffix(".").split(". ")
        what = ". ".join(sentences[: 2 if sentences[0].startswith("Figure") else 1])
        lines += [f"![{what}]({figure_name(name, illustration.name)})", "", illustration.caption, ""]
        lines += [f"`python -m experiments.{name} --preset digits` makes this figure.", ""]
    for table in section.tables:
        lines += [table.markdown(), ""]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(
        main(tyro.cli(Config, prog="python -m experiments.paper_page", description=(__doc__ or "").split("\n\n")[0]))
    )
