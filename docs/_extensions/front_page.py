"""The address of the site itself leads to its first page, which lies in the folder of its source."""

from pathlib import Path
from typing import Any

from sphinx.application import Sphinx


def _write(app: Sphinx, error: Exception | None) -> None:
    if error is None and app.builder.format == "html":
        (Path(app.outdir) / "index.html").write_text(
            '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>jaxinfl</title>'
            '<meta http-equiv="refresh" content="0; url=docs/index.html"></head>'
            '<body><a href="docs/index.html">The documentation of jaxinfl</a></body></html>\n'
        )
        # Pages leaves out folders that begin with an underscore, such as _static, unless this file is there.
        (Path(app.outdir) / ".nojekyll").touch()


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("build-finished", _write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
