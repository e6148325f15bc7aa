"""What an experiment leaves behind: results.json and figures."""

from jaxinfl.report.results import measured, save_figure, write_results

__all__ = ["measured", "save_figure", "write_results"]
