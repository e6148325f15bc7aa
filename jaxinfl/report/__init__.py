"""The results of experiments on disk: results.json, figures, tables, and a page of all of them."""

from jaxinfl.report.finding import Finding
from jaxinfl.report.page import write_page
from jaxinfl.report.results import (
    format_json,
    format_mean,
    format_range,
    read_results,
    save_figure,
    summarize,
    write_results,
)
from jaxinfl.report.section import Illustration, Section, Table

__all__ = [
    "Finding",
    "Illustration",
    "Section",
    "Table",
    "format_json",
    "format_mean",
    "format_range",
    "read_results",
    "save_figure",
    "summarize",
    "write_page",
    "write_results",
]
