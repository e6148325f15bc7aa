"""The shape of a finding, and of what is printed: no walls, no words cut in two, no line wider than the terminal."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.text import Text

from jaxinfl.cli.terminal import WIDTH, Terminal, arrange_columns, wrap
from jaxinfl.report import Finding, Table


def test_a_finding_is_an_answer_with_evidence():
    made = Finding("It takes 400 models.", ["At 25 models IOU is 0.1.", "At 400 it is 0.7."], "It found as many.")
    assert (made.answer, len(made.evidence), made.paper) == ("It takes 400 models.", 2, "It found as many.")
    assert Finding("Nothing was found.") == Finding("Nothing was found.", (), "")
    assert len(Finding(" ".join(["word"] * 30) + ".").answer.split()) == 30
    # A number with a point, an abbreviation and a section end no sentence.
    Finding("At influence 0.2 it is 0.7 (Carlini et al. 2022, Section 4.3).")


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (("",), "answer is ''; a finding takes one sentence"),
        (("No full stop",), "answer is 'No full stop'; a finding takes one sentence that ends with a full stop"),
        (("One. Two.",), "takes one sentence"),
        ((" ".join(["word"] * 31) + ".",), "answer has 31 words; a finding takes at most 30"),
        (("An answer.", ["No number."]), r"evidence\[0\] is 'No number.', without a number; say how much"),
        (
            ("An answer.", ["1 is one. 2 is two.", "As. Is."]),
            r"evidence\[1\] is 'As. Is.'; a finding takes one sentence",
        ),
        (
            ("An answer.", ["1 of 2."] * 4),
            "evidence has 4 sentences; a finding takes at most 3. Put the others below a table",
        ),
        (("An answer.", ["1 of 2."], " ".join(["word"] * 31) + "."), "paper has 31 words"),
    ],
)
def test_a_wall_cannot_be_made(parts, message):
    with pytest.raises(ValueError, match=message):
        Finding(*parts)


def printed(*objects, width=None, **options):
    terminal = Terminal(width)
    terminal.file = io.StringIO()
    terminal.print(*objects, **options)
    return terminal.file.getvalue()


@given(st.lists(st.text(st.characters(codec="ascii", categories=["L", "N", "P"]), min_size=1, max_size=30), min_size=1))
def test_lines_break_between_words(words):
    lines = printed(" ".join(words), markup=False).splitlines()
    assert " ".join(" ".join(lines).split()) == " ".join(words)
    assert all(len(line) <= WIDTH for line in lines)


def test_a_path_stays_in_one_piece():
    path = "/" + "x" * 100
    assert printed(f"Results in {path}:", "results.json", markup=False) == f"Results in\n{path}:\nresults.json\n"
    command = "To go on: python -m experiments.sweep " + "--recipe.epochs 3 " * 9
    assert printed(command, soft_wrap=True) == f"{command}\n"


def test_later_lines_are_indented_to_where_the_text_begins():
    lines = printed("recipe     " + "word " * 20, "\n- " + "item " * 20, markup=False).splitlines()
    assert [len(line) - len(line.lstrip()) for line in lines] == [0, 11, 0, 2]
    assert lines[0].startswith("recipe     word") and lines[2].startswith("- item")


def test_markup_is_kept_and_empty_lines_too():
    assert printed("\n[bold]In all[/bold] 3 models\n") == "\nIn all 3 models\n\n"
    assert printed("[bold]no markup[/bold]", markup=False) == "[bold]no markup[/bold]\n"
    assert printed() == "\n"
    (first, second) = wrap(Text.from_markup("[bold]" + "word " * 10 + "[/bold]rest"), 40)
    assert first.spans[0].style == "bold" and second.plain == "word word rest"
    assert printed("word " * 30, width=30).splitlines()[0] == "word " * 5 + "word"


def table(columns, rows=3, cell="0.52 ± 0.10"):
    names = ["estimator", *(f"{number} models of it" for number in range(columns))]
    return Table("A title " * 12, names, [["being right, from margins", *[cell] * columns]] * rows, "A note. " * 20)


@pytest.mark.parametrize("columns", [0, 1, 3, 7, 15])
def test_tables_fit_and_numbers_stay_whole(columns):
    terminal = Terminal()
    terminal.file = io.StringIO()
    terminal.print_table(table(columns))
    lines = terminal.file.getvalue().splitlines()
    assert all(len(line) <= WIDTH for line in lines)
    assert sum(line.count("0.52 ± 0.10") for line in lines) == 3 * columns
    words = {word for line in lines for word in line.split()}
    assert {"estimator", "being", "right,", "margins"} <= words
    pieces = arrange_columns(table(columns), WIDTH)
    assert [column for piece, _ in pieces for column in piece[1:]] == list(range(1, columns + 1))
    assert all(piece[0] == 0 for piece, _ in pieces)


def test_names_longer_than_a_line_do_not_widen_a_table():
    terminal = Terminal()
    terminal.file = io.StringIO()
    terminal.print_table(Table("t", ["x" * 90, "y" * 90, "\u6f22" * 50], [["a" * 300, "b" * 90, "0.5"]] * 2))
    lines = terminal.file.getvalue().splitlines()
    assert all(cell_len(line) <= WIDTH for line in lines) and "".join(lines).count("a") == 600 * 2


def test_text_of_a_table_is_no_markup():
    terminal = Terminal()
    terminal.file = io.StringIO()
    terminal.print_table(Table("[bold]", ["[red]", "b"], [["[/x]", "1"]], "[y]"))
    assert all(text in terminal.file.getvalue() for text in ("[bold]", "[red]", "[/x]", "[y]"))
