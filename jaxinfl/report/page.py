"""One page of HTML shows the sections of several experiments; it needs no script and no network, and figures lie beside it."""

import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined

from jaxinfl.files import write_atomically
from jaxinfl.report.section import Section


def html_templates(package: str) -> Environment:
    """The templates of a package, which lie in its folder `templates`.

    Text is escaped wherever a template puts it: names of data and classes come from data sets. What a template misspells is an error.
    """
    return Environment(
        loader=PackageLoader(package),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


_TEMPLATES = html_templates("jaxinfl.report")
_TEMPLATES.filters["quote"] = quote


def write_page(path: Path, title: str, introduction: str, sections: Mapping[Path, Section], footer: str) -> Path:
    """Write the page, in place of an older one as a whole.

    Args:
      path: the HTML file.
      title: plain text at the top of the page and in the title of its window.
      introduction: plain text below the title.
      sections: maps the folder that holds an experiment's figures to what the experiment has to say, as plain text.
      footer: plain text at the end of the page.

    Returns:
      The path.
    """
    relative = [(os.path.relpath(folder, path.parent), section) for folder, section in sections.items()]
    page = _TEMPLATES.get_template("page.html.jinja")
    text = page.render(title=title, introduction=introduction, sections=relative, footer=footer)
    path.parent.mkdir(parents=True, exist_ok=True)
    # A character that UTF-8 lacks (half of a pair, from a file's name) is no reason to lose the page.
    write_atomically(path, text.encode(errors="replace"))
    return path


__all__ = ["html_templates", "write_page"]
