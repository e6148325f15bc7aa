"""The page of all experiments: what it says, that it is one piece, and that no text of a data set becomes markup."""

import html.parser
from pathlib import Path

from jaxinfl.report import Finding, Illustration, Section, Table, format_mean, format_range, write_page

HOSTILE = '<script>alert("x")</script>&{{ 7 * 7 }}{% raw %}'


class Reader(html.parser.HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.words = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.words.append(data)


def section(**changes):
    values = {
        "title": "Figure 9",
        "claim": "They agree.",
        "setting": "digits",
        "finding": Finding("They do.", ["At 25 models 0.10."], "They did."),
        "tables": [Table("Agreement", ["models", "IOU"], [["25", "0.10 ± 0.01"]], "20 splits")],
        "illustrations": [Illustration("figure9", "How they agree")],
    }
    return Section(**values | changes)


def test_a_page_shows_everything(tmp_path):
    path = write_page(
        tmp_path / "index.html", "All", "Intro", {tmp_path / "nine": section(explorer="explorer.html")}, "2026"
    )
    page = Reader(path.read_text())
    text = " ".join(page.words)
    for words in (
        "All",
        "Intro",
        "Figure 9",
        "They agree.",
        "They do.",
        "At 25 models 0.10.",
        "They did.",
        "0.10 ± 0.01",
        "20 splits",
        "2026",
    ):
        assert words in text
    assert ("src", "nine/figure9.png") in page.attributes and ("href", "nine/figure9.svg") in page.attributes
    assert ("href", "nine/explorer.html") in page.attributes
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]
    # The answer comes first, then the evidence as a list, then the paper; rows and columns have headings.
    assert text.index("They do.") < text.index("At 25 models") < text.index("They did.") < text.index("They agree.")
    assert page.tags.count("li") == 1 and page.tags.count("section") == 1 and page.tags.count("th") == 3
    assert page.attributes.count(("scope", "row")) == 1 and page.attributes.count(("scope", "col")) == 2


def test_what_the_paper_does_not_say_is_left_out(tmp_path):
    alone = {tmp_path / "nine": section(finding=Finding("They do."))}
    page = Reader(write_page(tmp_path / "index.html", "All", "", alone, "").read_text())
    assert "The paper:" not in " ".join(page.words) and "li" not in page.tags


def test_text_never_becomes_markup(tmp_path):
    hostile = section(
        title=HOSTILE,
        finding=Finding(f"{HOSTILE}.", [f"{HOSTILE}."], f"{HOSTILE}."),
        tables=[Table(HOSTILE, [HOSTILE], [[HOSTILE]], HOSTILE)],
        illustrations=[Illustration(HOSTILE, '" onerror="alert(1)')],
    )
    folder = Path(tmp_path / 'a"b<c')
    path = write_page(tmp_path / "index.html", HOSTILE, HOSTILE, {folder: hostile}, HOSTILE)
    page = Reader(path.read_text())
    assert "script" not in page.tags
    assert {name for name, _ in page.attributes} <= {
        "lang",
        "charset",
        "name",
        "content",
        "class",
        "href",
        "id",
        "src",
        "alt",
        "scope",
    }
    assert " ".join(page.words).count(HOSTILE) == 13  # the title twice: in the head and on top


def test_half_of_a_pair_is_no_reason_to_lose_the_page(tmp_path):
    path = write_page(tmp_path / "index.html", "caf\udce9", "Intro", {}, "2026")
    assert "caf?" in path.read_text(encoding="utf-8")


def test_folders_that_are_one_keep_their_sections(tmp_path):
    folders = {tmp_path / "nine": section(), tmp_path / "other" / ".." / "nine": section(title="Figure 10")}
    words = " ".join(Reader(write_page(tmp_path / "index.html", "All", "", folders, "").read_text()).words)
    assert "Figure 9" in words and "Figure 10" in words


def test_spread_in_a_table():
    assert format_mean([0.1, 0.3]) == "0.200 ± 0.141"
    assert format_mean([0.25], 2) == "0.25" and format_mean([float("nan")]) == "none"
    assert format_range([0.7, float("nan"), 0.123]) == "0.12 to 0.70" and format_range([0.1204, 0.12], ".0%") == "12%"
    assert format_range([-1e-17], ".1%") == "0.0%" and format_range([-0.2, 0.1], "+.1f") == "-0.2 to +0.1"
    assert format_range([-0.001, 0.0], "+.2f") == "+0.00" and format_range([]) == format_range([float("nan")]) == "none"
