"""Runs the notebooks: a test executes them afresh, and `python -m tests.notebooks` writes the outputs that readers see into them.

Outputs are kept in the files, because a reader on the web sees no figure otherwise. What would differ from one machine to the next and
says nothing is left out of them: times, versions, progress bars.
"""

import os
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
_WIDGET = "application/vnd.jupyter.widget-view+json"


def read(path: Path) -> nbformat.NotebookNode:
    """The notebook in a file."""
    return nbformat.read(path, as_version=4)


def execute(notebook: nbformat.NotebookNode, folder: Path, more: str = "", timeout: int = 600) -> nbformat.NotebookNode:
    """Execute a notebook in an empty folder, with the package of this checkout, and keep its outputs in it.

    Args:
      notebook: the notebook; its outputs are replaced.
      folder: working directory of the kernel.
      more: code that is executed after the last cell and is not kept.
      timeout: seconds that a cell may take.

    Raises:
      CellExecutionError: a cell, or `more`, raised an error.
    """
    before = dict(os.environ)
    # The kernel inherits the environment, and an installed package may be another checkout's.
    os.environ["PYTHONPATH"] = str(ROOT)
    cells = list(notebook.cells)
    if more:
        notebook.cells = [*cells, nbformat.v4.new_code_cell(more)]
    try:
        NotebookClient(
            notebook,
            timeout=timeout,
            kernel_name="python3",
            record_timing=False,
            resources={"metadata": {"path": str(folder)}},
        ).execute()
    finally:
        os.environ.clear()
        os.environ.update(before)
        notebook.cells = cells
    return notebook


def strip(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Leave out of the outputs what says nothing to a reader, in place."""
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    for number, cell in enumerate(notebook.cells):
        cell.id, cell.metadata = f"cell-{number}", nbformat.from_dict({})
        if cell.cell_type == "code":
            cell.outputs = [each for each in cell.outputs if _WIDGET not in each.get("data", {})]
    return notebook


def main(folder: Path) -> None:
    """Execute every notebook, or those that the command line names, and write their outputs into them."""
    named = {Path(argument).resolve() for argument in sys.argv[1:]}
    for path in NOTEBOOKS:
        if not named or path in named:
            print(path.name, flush=True)
            nbformat.write(strip(execute(read(path), folder)), path)


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        main(Path(folder))
