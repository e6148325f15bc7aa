"""Checks that every experiment must pass, on its smallest preset, in the test's own process."""

import dataclasses
import json
import re
import runpy
import sys
from pathlib import Path

import pytest

from experiments.command_line import NothingMore
from jaxinfl.cli.terminal import WIDTH
from jaxinfl.report import Finding
from jaxinfl.training import workforce

ROOT = Path(__file__).parent.parent


def run_here(monkeypatch, capsys, program: str, *arguments: str) -> tuple[int, str]:
    """Run `python -m program arguments` without a process of its own, whose start takes seconds; return status and output.

    The output comes with one blank between words, wherever its lines break. An exception that would end the process with a
    traceback is raised here.
    """
    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "argv", [program, *arguments])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(ROOT / (program.replace(".", "/") + ".py")), run_name="__main__")
    printed = capsys.readouterr()
    check_width(printed.out)
    return int(ended.value.code or 0), " ".join((printed.out + printed.err).split())


def check_width(printed: str) -> None:
    """No line is wider than 80 columns, but for a path or another word that does not fit."""
    for line in printed.splitlines():
        assert len(line) <= WIDTH or max(map(len, line.split())) > WIDTH // 2, line


def check_section(section: dict) -> None:
    """A section of results.json can be read by somebody who has seen nothing else, and makes the same finding again."""
    finding = Finding(**section["finding"])
    assert len(finding.answer.split()) <= 30 and len(finding.evidence) <= 3
    assert all(any(letter.isdigit() for letter in each) for each in finding.evidence)
    for text in (finding.answer, *finding.evidence, finding.paper):
        assert not {"nan", "inf", "None"} & set(re.findall(r"\w+", text)), text
    assert "paper" not in section
    for illustration in section["illustrations"]:
        caption = illustration["caption"]
        assert caption.count(".") >= 2 and len(caption.split()) >= 30, caption
        assert illustration["name"] == "gallery" or "vertical" in caption or "row" in caption, caption


def run_again(monkeypatch, capsys, program: str, *arguments: str) -> tuple[int, str]:
    """Run a command like `run_here` without drawing figures, each of which takes seconds to lay out and save."""
    with monkeypatch.context() as patch:
        patch.setattr("experiments.outcome.save_figure", _no_figure)
        return run_here(monkeypatch, capsys, program, *arguments)


def check_end_to_end(main, config, folder: Path, monkeypatch, capsys, *, figures: set[str], runs: set[str]) -> dict:
    """Print the cost of an experiment, run it, and run it again; return the results.

    Printing the cost trains and writes nothing, before the run and after it. A second run trains nothing and gives the same
    results.
    """
    out = folder / "results"
    config = dataclasses.replace(config, out=out)
    with monkeypatch.context() as patch:
        patch.setattr(workforce, "finished_shards", _no_training)
        with pytest.raises(NothingMore):
            main(dataclasses.replace(config, cost=True))
    printed = capsys.readouterr().out
    check_width(printed)
    assert not out.exists() and "In all" in printed

    assert main(config) == out
    printed = capsys.readouterr().out
    check_width(printed)
    drawn = {f"{name}.{kind}" for name in figures for kind in ("png", "svg")}
    written = json.loads((out / "results.json").read_text())
    assert written["config"]["preset"] == "tiny"
    check_section(written["section"])
    finding, said = written["section"]["finding"], " ".join(printed.split())
    assert f"Finding {finding['answer']}" in said and str(out) in said
    assert all(f"- {each}" in said for each in finding["evidence"]) and finding["paper"] in said
    explorer = {written["section"]["explorer"]} - {""}
    assert {path.name for path in out.iterdir()} == {"results.json"} | drawn | runs | explorer

    with monkeypatch.context() as patch:
        patch.setattr(workforce, "finished_shards", _no_training)
        # Figures are drawn once: each takes seconds to lay out and save.
        patch.setattr("experiments.outcome.save_figure", _no_figure)
        main(config)
        assert "finished before" in capsys.readouterr().out
        with pytest.raises(NothingMore):
            main(dataclasses.replace(config, cost=True))
        assert "In all 0 models to train" in capsys.readouterr().out
    again = json.loads((out / "results.json").read_text())
    assert again["results"] == written["results"] and again["section"] == written["section"]
    return written["results"]


def _no_figure(figure, directory, name):
    return [directory / f"{name}.png"]


def _no_training(*arguments, **options):
    raise AssertionError("trained again")
