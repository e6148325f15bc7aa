"""One HTML file in which the examples of a run are explored: what is memorized, and what influences what.

The plot is drawn by Vega, the library below Vega-Lite and Altair, which comes inside of the package vl-convert-python: BSD licence, 0.9 MB of
JavaScript, no network. The plot is described in Vega-Lite (`scripts/plot.vl.json`), which vl-convert-python turns into Vega when the page is
written, so that nothing is compiled when the page is opened. Bokeh's script is larger (1.1 MB), and so is Plotly's (4.7 MB).
Altair would write the same description, with a page around it that knows nothing of images or partners.

What is not drawn by Vega, the list, the search and the partners of an example, is the browser's own: `scripts/` has five small files.
"""

from jaxinfl.explore.explorer import write_explorer

__all__ = ["write_explorer"]
