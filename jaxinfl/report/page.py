"""One page of HTML from the sections of several experiments; no script, no network, figures beside it."""

import html
import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from jaxinfl.report.section import Illustration, Section, Table

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.7rem; } h2 { margin-top: 3rem; border-top: 1px solid #ccc; padding-top: 1rem; font-size: 1.3rem; }
nav { columns: 2; } nav a { display: block; } a { color: #2f6f9f; }
p.claim { color: #555; font-style: italic; } p.setting, p.note, figcaption, footer { color: #555; font-size: .88rem; }
p.finding { border-left: 4px solid #c8442f; padding-left: .8rem; } p.paper { border-left: 4px solid #a9b4bf; padding-left: .8rem; }
table { border-collapse: collapse; margin: 1rem 0 .3rem; font-size: .9rem; }
caption { text-align: left; font-weight: 600; padding-bottom: .3rem; }
th, td { padding: .18rem .7rem; border-bottom: 1px solid #e5e5e5; text-align: right; font-variant-numeric: tabular-nums; }
th { border-bottom: 2px solid #999; } th:first-child, td:first-child { text-align: left; }
figure { margin: 1.2rem 0; } img { max-width: 100%; } div.wide { overflow-x: auto; }
"""


def write_page(path: Path, title: str, introduction: str, sections: Mapping[Path, Section], footer: str) -> Path:
    """Write the page, replaced as a whole.

    Args:
      path: of the HTML file.
      title, introduction, footer: plain text.
      sections: folder with an experiment's figures -> what it says. All text is escaped: class names come from data sets.
    """
    contents = "".join(
        f'<a href="#s{number}">{html.escape(section.title)}</a>' for number, section in enumerate(sections.values())
    )
    body = "".join(
        _section(number, section, os.path.relpath(folder, path.parent))
        for number, (folder, section) in enumerate(sections.items())
    )
    text = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
        f"<h1>{html.escape(title)}</h1><p>{html.escape(introduction)}</p><nav>{contents}</nav>{body}"
        f"<footer><hr>{html.escape(footer)}</footer></body></html>\n"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".html.draft")
    # A character that UTF-8 lacks (half of a pair, from a file's name) is no reason to lose the page.
    draft.write_text(text, encoding="utf-8", errors="replace")
    os.replace(draft, path)
    return path


def _section(number: int, section: Section, folder: str) -> str:
    paragraphs = "".join(
        f'<p class="{kind}">{lead}{html.escape(text)}</p>'
        for kind, lead, text in (
            ("claim", "", section.claim),
            ("setting", "", section.setting),
            ("finding", "<b>Here:</b> ", section.finding),
            ("paper", "<b>The paper:</b> ", section.paper),
        )
    )
    figures = "".join(_figure(illustration, folder) for illustration in section.illustrations)
    tables = "".join(map(_table, section.tables))
    return f'<h2 id="s{number}">{html.escape(section.title)}</h2>{paragraphs}{figures}{tables}'


def _figure(illustration: Illustration, folder: str) -> str:
    source = html.escape(f"{quote(folder)}/{quote(illustration.name)}", quote=True)
    caption = html.escape(illustration.caption)
    return (
        f'<figure><a href="{source}.svg"><img src="{source}.png" alt="{html.escape(illustration.caption, quote=True)}"></a>'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _table(table: Table) -> str:
    head = "".join(f"<th>{html.escape(column)}</th>" for column in table.columns)
    rows = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows)
    note = f'<p class="note">{html.escape(table.note)}</p>' if table.note else ""
    return (
        f'<div class="wide"><table><caption>{html.escape(table.title)}</caption><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>{note}"
    )


__all__ = ["write_page"]
