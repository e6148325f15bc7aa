"""What an experiment leaves behind: results.json, figures, tables, and a page of all of them."""

from jaxinfl.report.page import write_page
from jaxinfl.report.results import measured, save_figure, spread, write_results
from jaxinfl.report.section import Illustration, Section, Table

__all__ = ["Illustration", "Section", "Table", "measured", "save_figure", "spread", "write_page", "write_results"]
