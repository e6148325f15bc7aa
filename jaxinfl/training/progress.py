"""A progress bar for a run, with models done, models per hour, test accuracy and time left."""

import time
from importlib.util import find_spec
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn


class TrainingProgress:
    """A progress bar on standard error where that is a terminal, or below the cell of a notebook that has ipywidgets.

    Elsewhere nothing is shown, so that logs stay readable.
    """

    def __init__(self, num_models: int, finished: int, *, shown: bool = True):
        console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.completed:.0f}/{task.total:.0f} models"),
            BarColumn(),
            TextColumn("{task.fields[rate]}"),
            TextColumn("{task.fields[accuracy]}"),
            TextColumn("{task.fields[state]}"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=console,
            disable=not (shown and (console.is_terminal or _is_notebook(console))),
        )
        self._task = self._bar.add_task("", total=num_models, completed=finished, rate="", accuracy="", state="")
        self._begun = time.perf_counter()
        self.done = 0.0
        """Number of models that this process has trained, with fractions for those in training."""
        self._correct = self._scored = 0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def advance(self, models: float) -> None:
        """Add finished work, counted in models; a part of a model's epochs is a fraction."""
        self.done += models
        rate = self.done / (time.perf_counter() - self._begun) * 3600
        self._bar.update(self._task, advance=models, rate=f"{rate:,.0f} models/h")

    def score(self, correct: int, predictions: int) -> None:
        """Add test predictions of finished models, and how many of them are correct."""
        self._correct += correct
        self._scored += predictions
        self._bar.update(self._task, accuracy=f"test accuracy {self._correct / self._scored:.1%}")

    def say(self, state: str) -> None:
        """Show in words how things stand."""
        self._bar.update(self._task, state=state)


def _is_notebook(console: Console) -> bool:
    """Whether the console is a notebook in which rich can draw again what it drew; without ipywidgets it would warn instead."""
    return console.is_jupyter and find_spec("ipywidgets") is not None
