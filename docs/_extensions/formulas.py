"""Formulas as MathML, which browsers draw by themselves.

Sphinx's own MathJax is a script from another host, which readers behind a firewall cannot load.
"""

from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

_LOG = logging.getLogger(__name__)


def to_mathml(latex: str, display: str) -> str:
    """A formula in LaTeX as MathML; `display` is "inline" or "block".

    Raises:
      ValueError: it is no formula that latex2mathml knows.
    """
    try:
        found = convert(latex, display=display)
    except Exception as error:  # each mistake has an exception class of its own, which is no ValueError
        raise ValueError(f"{latex!r} is no formula that can be drawn: {error!r}.") from error
    if "\\" in found.replace(r"\\", ""):
        raise ValueError(f"{latex!r} has a command that latex2mathml does not know: {found}.")
    return found


def _visit_inline(self: HTML5Translator, node: nodes.math) -> None:
    self.body.append(_draw(node, "inline"))
    raise nodes.SkipNode


def _visit_block(self: HTML5Translator, node: nodes.math_block) -> None:
    self.body.append(f'<div class="formula">{_draw(node, "block")}</div>\n')
    raise nodes.SkipNode


def _draw(node: nodes.Element, display: str) -> str:
    try:
        return to_mathml(node.astext(), display)
    except ValueError as error:
        _LOG.warning("%s", error, location=node)
        return ""


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_html_math_renderer("mathml", (_visit_inline, None), (_visit_block, None))
    app.config.html_math_renderer = "mathml"  # type: ignore[attr-defined]
    return {"parallel_read_safe": True, "parallel_write_safe": True}
