"""What an experiment leaves behind: results.json, figures, tables, and a page of all of them."""

from jaxinfl.report.page import write_page
from jaxinfl.report.results import format_spread, save_figure, summarize, write_results
from jaxinfl.report.section import Illustration, Section, Table

__all__ = [
    "Illustration",
    "Section",
    "Table",
    "summarize",
    "save_figure",
    "format_spread",
    "write_page",
    "write_results",
]
