"""What the pages of the documentation say can be typed: their programs run, and print what they show."""

import contextlib
import dataclasses
import importlib
import importlib.util
import io
import re
import shlex
import time
from pathlib import Path
from types import ModuleType

import jax
import pytest

from tests.docs_pages import PAGES, REASONS, ROOT, Block, differs, read_blocks
from tests.docs_worlds import prepare

SLOW = (
    "README",
    "api",
    "cluster",
    "ground_truth",
    "label_errors",
    "models_trained_elsewhere",
    "pilot",
    "privacy_audit",
    "published_runs",
    "start",
    "your_images",
    "your_loss",
    "your_table",
    "your_text",
)
"""Pages whose programs take more than 5 seconds together. All of them print what the page shows, at full size."""

EVERY = [ROOT / "README.md", *PAGES]
WITH_PROGRAMS = [page for page in EVERY if any(not block.reason for block in read_blocks(page.read_text()))]


def run_page(page: Path, tell=lambda block, printed, seconds: None) -> None:
    """Run the programs of a page one after another, in this process and the current folder, and compare what they print."""
    names = {"__name__": "__main__"}
    prepare(page.stem, names)
    # What the tests forbid jaxinfl, JAX allows its users.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        _run_blocks(page, names, tell)


def _run_blocks(page: Path, names: dict, tell) -> None:
    for block in read_blocks(page.read_text()):
        if block.reason:
            continue
        printed, begun = io.StringIO(), time.perf_counter()
        with contextlib.redirect_stdout(printed):
            # Lines of an error are those of the page.
            exec(compile("\n" * (block.line - 1) + block.source, str(page), "exec"), names)  # noqa: S102 - our own pages
        tell(block, printed.getvalue(), time.perf_counter() - begun)
        if block.shown:
            difference = differs(block.shown, printed.getvalue())
            assert not difference, f"{page.name}, program at line {block.line}: {difference}"


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=[pytest.mark.slow] if page.stem in SLOW else [], id=page.stem) for page in WITH_PROGRAMS],
)
def test_programs_run(page, tmp_path, monkeypatch, types_unchecked):
    monkeypatch.chdir(tmp_path)
    run_page(page)


@pytest.mark.parametrize("page", EVERY, ids=lambda page: page.stem)
def test_programs_that_no_test_runs_say_why(page):
    for block in read_blocks(page.read_text()):
        assert not block.reason or block.reason in REASONS, f"{page.name}, line {block.line}: {block.reason}"
    # A block without a language is not collected.
    assert not re.search(r"^```\s*\n(import|from) ", page.read_text(), re.MULTILINE), page


def commands(page: Path) -> list[list[str]]:
    """The commands of a page that are ours, in words: those of indented lines, of blocks of shell, and of code in lines."""
    text = re.sub(r"^```python\n.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    found = re.findall(
        r"(?:`|^ {4}|\$ |&& )((?:python -m (?:experiments|benchmarks|jaxinfl)\.|jaxinfl )[^`\n#&]*)", text, re.MULTILINE
    )
    return [shlex.split(re.split(r" {2,}|[|>]", command.strip())[0]) for command in found]


@pytest.mark.parametrize("page", EVERY, ids=lambda page: page.stem)
def test_commands_parse(page):
    """Options, sub-commands and modules that a page names exist."""
    for command in commands(page):
        if command[:2] == ["jaxinfl", "COMMAND"] or command[1].startswith("--"):
            continue
        name = f"jaxinfl.cli.{command[1]}" if command[0] == "jaxinfl" else command[2]
        known = {"help", *options_of(find_module(name))}
        options = {word.partition("=")[0].removeprefix("--") for word in command if word.startswith("--")}
        assert options <= known, f"{page.name}: {shlex.join(command)} has {options - known}"


def find_module(name: str) -> ModuleType:
    if importlib.util.find_spec(f"{name}.__main__" if (ROOT / name.replace(".", "/")).is_dir() else name) is None:
        raise AssertionError(f"there is no module {name}")
    return importlib.import_module(f"{name}.__main__" if (ROOT / name.replace(".", "/")).is_dir() else name)


def options_of(module: ModuleType) -> set[str]:
    """Names of the options of a module's command line: the fields of its dataclass of options, and of those in it."""
    for owner in ("Config", "Options"):
        if dataclasses.is_dataclass(getattr(module, owner, None)):
            return set(fields_of(getattr(module, owner)))
    return set(re.findall(r"[\"']--([\w-]+)", Path(module.__file__).read_text()))


def fields_of(kind: type, before: str = "") -> list[str]:
    found = []
    for field in dataclasses.fields(kind):
        name = before + field.name.replace("_", "-")
        # A nested dataclass may also be chosen as a whole: `--cluster slurm`.
        found += [name, *(fields_of(field.type, f"{name}.") if dataclasses.is_dataclass(field.type) else [])]
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_figure_has_the_command_that_makes_it(page):
    """A command stands within the lines below a figure, before the next heading."""
    lines = page.read_text().splitlines()
    for number, line in enumerate(lines):
        if line.startswith("!["):
            below = "\n".join(lines[number : number + 14]).partition("\n#")[0]
            assert re.search(r"`(python -m [\w.]+|make \w+)|^ {4}python -m ", below, re.MULTILINE), (
                f"{page.name}: {line}"
            )
            assert (page.parent / re.search(r"\]\(([^)]+)\)", line)[1]).is_file(), f"{page.name}: {line}"
            assert len(re.search(r"!\[([^\]]*)\]", line)[1]) > 20, f"{page.name}: {line} has no description"


def test_a_program_is_read_with_what_it_prints():
    text = "# A\n```python\nprint(1)\n```\nIt prints\n\n    1\n\n*Not run by a test: it needs a GPU.*\n```python\nf()\n```\n"
    assert read_blocks(text) == [Block("print(1)\n", "1", "", 3), Block("f()\n", "", "it needs a GPU", 11)]
    fenced = "```python\nprint(2)\n```\n\n```text\n2\n```\n\n## B\n```text\n3\n```\n"
    assert read_blocks(fenced)[0].shown == "2\n"


@pytest.mark.parametrize(
    "shown, printed, same",
    [
        ("a 0.50", "a 0.53", True),
        ("a 0.50", "a 0.60", False),
        ("row 12", "row 13", True),
        ("row 12", "row 18", False),
        ("[12 5]", "[12 7]", True),
        ("[12 5]", "[13 5]", False),
        ("a", "b", False),
        ("a\nb", "a", False),
        ("a", "a\nmore", True),
        ("[-1.66  0.2 ]", "[-1.68 0.21]", True),
    ],
)
def test_what_is_printed_is_compared(shown, printed, same):
    assert (differs(shown, printed) == "") == same
