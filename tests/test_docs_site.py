"""The site: every page and public name has its place, nothing is loaded from another host, and formulas are drawn without scripts.

The tests of the extensions are slow because they take the extra `docs`, which `make test` does not install.
"""

import importlib
import re
import sys
from collections import Counter

import pytest
import yaml

import jaxinfl
from experiments import paper_page
from jaxinfl.report import Finding, Illustration, Section, Table
from jaxinfl_command import COMMANDS, main
from tests.docs_pages import PAGES, ROOT

INDEX = (ROOT / "docs" / "index.md").read_text()


@pytest.fixture
def extensions(monkeypatch):
    """Sphinx finds the extensions in this folder."""
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "_extensions"))
    yield
    for name in ("docstrings", "formulas", "one_host", "front_page", "command_options"):
        sys.modules.pop(name, None)


def test_every_page_is_in_the_navigation_once():
    listed = Counter(
        line
        for tree in re.findall(r"```\{toctree\}\n(.*?)```", INDEX, re.DOTALL)
        for line in tree.splitlines()
        if line and not line.startswith(":")
    )
    own = {name for name in listed if not name.startswith("../")}
    assert own == {page.stem for page in PAGES} - {"index"} and set(listed.values()) == {1}
    assert all((ROOT / "docs" / f"{name}.md").is_file() for name in listed)


def test_every_public_name_is_on_one_page_of_the_reference():
    pages = "".join((ROOT / "docs" / f"api_{group}.md").read_text() for group in ("train", "estimate", "judge"))
    found = Counter(re.findall(r"^\.\. auto(?:function|class|exception|module):: jaxinfl\.(\w+)$", pages, re.MULTILINE))
    assert found == Counter(set(jaxinfl.__all__))


def test_the_reference_stands_in_one_group():
    """A name is on the page of the group that api.md has it in."""
    overview = (ROOT / "docs" / "api.md").read_text()
    groups = re.split(r"^## ", overview, flags=re.MULTILINE)[1:4]
    for group, text in zip(("train", "estimate", "judge"), groups, strict=True):
        page = (ROOT / "docs" / f"api_{group}.md").read_text()
        table = "\n".join(line.split("|")[1] for line in text.splitlines() if line.startswith("| `"))
        for name in set(re.findall(r"`(\w+)`", table)) & set(jaxinfl.__all__):
            assert re.search(rf"jaxinfl\.{name}$", page, re.MULTILINE), f"{name} is missing on api_{group}.md"


def test_the_workflow_builds_on_every_change_and_publishes_from_main_alone():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "docs.yml").read_text())
    # YAML 1.1 takes the key "on" for true.
    assert workflow[True]["push"] == {"branches": ["main"]} and "pull_request" in workflow[True]
    assert workflow["permissions"] == {"contents": "read"}
    assert {"run": "make docs"} in workflow["jobs"]["build"]["steps"]
    assert workflow["jobs"]["publish"]["if"] == "github.event_name == 'push'"
    assert {name for name, job in workflow["jobs"].items() if "permissions" in job} == {"publish"}


def test_make_builds_the_site_with_warnings_as_errors():
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(r"^docs:.*\n\t.*sphinx.*--fail-on-warning.*build/site$", makefile, re.MULTILINE)
    assert re.search(r"^test-all:.* docs\b", makefile, re.MULTILINE)
    assert "build/" in (ROOT / ".gitignore").read_text().splitlines()


# --- the paper's page ------------------------------------------------------------------------------------------------


def test_the_paper_s_page_is_made_of_results(tmp_path, capsys):
    finding = Finding("Yes.", ["1 of 2."], "No.")
    table = Table("A table", ["a", "b"], [["1", "x|y"]], "A note.")
    shown = Illustration("curve", "Figure 9. A curve (vertical) over t. It rises.")
    section = Section("Figure 9", "A claim.", "A setting.", finding, [table], [shown])
    text = paper_page.write_section("sweep", section)
    assert "**Yes.**" in text and "*The paper:* No." in text and "| 1 | x\\|y |" in text and "A note." in text
    assert "![Figure 9. A curve (vertical) over t](paper_sweep_curve.png)" in text
    assert paper_page.main(paper_page.Config(results=tmp_path, docs=tmp_path)) == 2
    assert "holds no results" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_the_paper_s_page_has_every_figure_and_table_of_the_paper():
    page = (ROOT / "docs" / "paper.md").read_text()
    for name in (
        "Figure 1",
        "Figure 2a",
        "Figure 3",
        "Figure 4",
        "Figures 5 and 6",
        "Table 1",
        "Table 2",
        "Tables 2b and 3",
    ):
        assert name in page, name
    assert page.count("*The paper:*") >= 5


# --- the extensions --------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "text, number",
    [
        ('<script src="https://cdn.example/mathjax.js"></script>', 1),
        ("<script async src=//cdn.example/x.js></script>", 1),
        ('<img alt="a" src="http://example/a.png">', 1),
        ('<link href="https://fonts.example/css" rel="stylesheet">', 1),
        ("@font-face { src: url(https://fonts.example/a.woff2) }", 1),
        ("@import 'https://fonts.example/css';", 1),
        ('fetch("https://example/search.json")', 1),
        ('<a href="https://arxiv.org/abs/2008.03703">a paper</a>', 0),
        ('<link rel="canonical" href="https://example/page.html">', 0),
        ('<img src="../_images/figure1.png"><script src="a.js"></script>', 0),
        ('<math xmlns="http://www.w3.org/1998/Math/MathML"></math>', 0),
    ],
)
def test_requests_to_other_hosts_are_found(text, number, extensions):
    from one_host import find_requests

    assert len(find_requests(text)) == number


@pytest.mark.slow
def test_formulas_become_mathml(extensions):
    from formulas import to_mathml

    assert to_mathml(r"\frac{a_1}{2}", "inline").startswith("<math") and "<mfrac>" in to_mathml(
        r"\frac{a_1}{2}", "block"
    )
    with pytest.raises(ValueError, match=r"has a command that latex2mathml does not know"):
        to_mathml(r"\unheardof x", "inline")
    with pytest.raises(ValueError, match="no formula that can be drawn"):
        to_mathml(r"a^b^c", "inline")


@pytest.mark.slow
def test_signatures_are_those_of_the_source(extensions):
    from docstrings import write_signature, write_type

    assert write_signature(jaxinfl.influence) == (
        "(masks: Models, score: Score=None)",
        "Float32[np.ndarray, 'train test']",
    )
    assert write_signature(jaxinfl.memorization)[1] == "Float32[np.ndarray, 'train']"
    assert write_signature(jaxinfl.Ensemble.open) == ("(run_dir: str | os.PathLike[str])", "Ensemble")
    assert write_signature(jaxinfl.Recipe) == ("", "") and write_signature(jaxinfl.OutOfMemory) is None
    assert write_type(jaxinfl.Recipe, "epochs") == "int = 20"
    assert write_type(jaxinfl.Cluster, "kind") == "Literal['local', 'slurm', 'ray'] | None = None"
    assert write_type(jaxinfl.Recipe, "optimizer") == "Literal['sgd', 'adamw'] = 'sgd'"
    assert write_type(jaxinfl.Discoveries, "low") == "Float[np.ndarray, 'pairs']"
    assert write_type(jaxinfl.Recipe, "unknown") == ""


@pytest.mark.slow
@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_options_are_those_that_help_names(command, extensions, capsys):
    from command_options import describe_options

    with pytest.raises(SystemExit):
        main([command, "--help"])
    named = set(re.findall(r"^. +(?:-h, )?(--[a-z][\w.-]*)", capsys.readouterr().out, re.MULTILINE)) - {"--help"}
    lines = describe_options(importlib.import_module(f"jaxinfl.cli.{command}").Options)
    assert {name for name in re.findall(r"^``(\S+)``", "\n".join(lines), re.MULTILINE) if name[0] == "-"} == named
    assert all(line.strip() for line in lines[1::3])  # each has its docstring


@pytest.mark.slow
def test_docstrings_keep_their_stars_lists_and_code(extensions):
    from docstrings import to_restructured_text

    assert to_restructured_text(["2**-27 of `a * b`"]) == [r"2\*\*-27 of `a * b`"]
    assert to_restructured_text(["One of:", "- a", "  more", "- b", "Then c."]) == [
        *("One of:", "", "- a", "  more", "- b", "", "Then c.")
    ]
    assert to_restructured_text(["Call:", "", "    f(*x)", "", "So."]) == [
        "Call:",
        "",
        "::",
        "",
        "    f(*x)",
        "",
        "So.",
    ]
    assert to_restructured_text(["Returns:", "    numbers"]) == ["Returns:", "    numbers"]
