"""No page asks for another host: the site works behind a firewall. Links that a reader may follow are not concerned."""

import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.util import logging

_LOG = logging.getLogger(__name__)
_ELSEWHERE = r"(?:https?:)?//[^\s\"')>]+"
_PATTERNS = (
    # What an element loads by itself. A link (`a`) loads nothing, and neither does the address of a page among its own metadata.
    re.compile(
        rf"<(?:img|script|iframe|source|video|audio|embed|track|input)\b[^>]*?\b(?:src|srcset)\s*=\s*[\"']?({_ELSEWHERE})",
        re.IGNORECASE,
    ),
    re.compile(rf"<object\b[^>]*?\bdata\s*=\s*[\"']?({_ELSEWHERE})", re.IGNORECASE),
    re.compile(
        rf"<link\b(?![^>]*\brel\s*=\s*[\"']?(?:canonical|author|license))[^>]*?\bhref\s*=\s*[\"']?({_ELSEWHERE})",
        re.IGNORECASE,
    ),
    re.compile(rf"url\(\s*[\"']?({_ELSEWHERE})", re.IGNORECASE),
    re.compile(rf"@import\s+[\"']({_ELSEWHERE})", re.IGNORECASE),
    re.compile(rf"\b(?:fetch|import|importScripts)\(\s*[\"'`]({_ELSEWHERE})", re.IGNORECASE),
)


def find_requests(text: str) -> list[str]:
    """Addresses on other hosts that a page, a style sheet or a script loads by itself."""
    return [match for pattern in _PATTERNS for match in pattern.findall(text)]


def _check(app: Sphinx, error: Exception | None) -> None:
    if error is not None or app.builder.format != "html":
        return
    for path in sorted(Path(app.outdir).rglob("*")):
        if path.suffix in (".html", ".css", ".js", ".svg"):
            for address in find_requests(path.read_text(errors="replace")):
                _LOG.warning("%s loads %s, which is on another host. Ship the file with the site.", path, address)


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("build-finished", _check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
