"""Ctrl-C, and the signals that pre-empted machines get, stop a run between two calls, when its work is saved."""

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, NoReturn, Self

from jaxinfl import provenance
from jaxinfl.store import ABSENT, RunDirectoryError, RunStore
from jaxinfl.store.parts import open_rows, part_models, part_path

_log = logging.getLogger("jaxinfl")


class Interrupted(KeyboardInterrupt):
    """Ctrl-C stopped the run, everything was saved, and the way to go on was printed."""


class Terminated(SystemExit):
    """SIGTERM or SIGUSR2 stopped the run, everything was saved, and the exit status is the one that shells give to the signal."""

    def __init__(self, number: int = signal.SIGTERM) -> None:
        super().__init__(128 + number)


_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)


class StopRequest:
    """Between the call of `train_ensemble` and its return, the two signals only ask to stop; a second one stops at once.

    SIGUSR2 asks as well where somebody handles it: submitit, which then puts a job of a cluster back into its queue. When everything
    is saved, its handler is called. Schedulers may send SIGTERM before it or after it, which makes neither a second request.

    A process that was started to ignore a signal goes on ignoring it. When the run stops, it says how far it has come and how it
    goes on. A run that is kept in memory has nothing to save, and signals do there what they do elsewhere. Signals reach the main
    thread alone, so in another thread this context changes nothing.
    """

    def __init__(self, *, kept: bool) -> None:
        """Make a request for a run that is kept on disk, or in memory where `kept` is False."""
        self.asked: signal.Signals | None = None
        self.standing: Callable[[], str] = lambda: "Stopped: nothing is trained yet."
        """Function that returns the message to print when the run stops."""
        self._kept = kept
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if self._kept and threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                before = signal.getsignal(number)
                # None: a handler that was not installed from Python, and could not be put back.
                if before is None or before is signal.SIG_IGN:
                    continue
                if number != signal.SIGUSR2 or before is not signal.SIG_DFL:
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The signal came after the last check: while results were read, or an error was on its way.
        late = self.asked is not None and not isinstance(error, (KeyboardInterrupt, SystemExit))
        if self._kept and (late or isinstance(error, (KeyboardInterrupt, Terminated))):
            print(f"\n{self.standing()}", file=sys.stderr)
        if late:
            if error is not None:
                _log.error("The run ended with an error as well: %s", error)
            self._leave()
        self._restore()

    def leave_if_asked(self) -> None:
        """Leave if a signal asked for it; everything is saved by now.

        Raises:
          Interrupted, Terminated: a signal came.
        """
        if self.asked is not None:
            self._leave()

    def _leave(self) -> NoReturn:
        """Raise the exception of the signal, after calling the user's own handler where there is one."""
        asked = self.asked
        handler = self._before.get(asked) if asked else None
        self._restore()
        if asked and callable(handler) and handler is not signal.default_int_handler:
            signal.raise_signal(asked)
        raise Interrupted if asked in (None, signal.SIGINT) else Terminated(asked)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked is None or number == signal.SIGUSR2:
            self.asked = signal.Signals(number)
            return
        if self.asked == signal.SIGUSR2 and number == signal.SIGTERM:
            return
        self._restore()
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        os.kill(os.getpid(), number)

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}


class Watch:
    """A clock that says when it is time for a checkpoint."""

    def __init__(self, every: float, stop: StopRequest):
        """Start the clock; `every` is the number of seconds of work that may be lost."""
        self._every, self._stop = every, stop
        self.restart()

    @property
    def due(self) -> bool:
        """Whether it is time to save."""
        return self._stop.asked is not None or time.monotonic() - self._last >= self._every

    def restart(self) -> None:
        """Start counting again, because everything is on disk."""
        self._last = time.monotonic()

    def leave_if_asked(self) -> None:
        """Leave if a signal asked for it; everything is saved by now."""
        self._stop.leave_if_asked()


def standing_of(path: Path, part: tuple[int, int] | None, num_models: int) -> str:
    """Say how far a run in a directory has come, of `num_models` models in all, and how it goes on."""
    try:
        rows = open_rows(path) if part is None else RunStore.open(part_path(path, part), writable=False)
        status = rows.own_status() if isinstance(rows, RunStore) else rows.status()
        finished = int((status != ABSENT).sum())
        total = max(len(status), num_models) if part is None else len(status)
    except RunDirectoryError:  # not begun yet
        first, last = part_models(num_models, part or (1, 1))
        finished, total = 0, last - first
    return (
        f"Stopped: {finished} of {total} models are finished and kept in {path}, with those on the way. "
        f"The same call goes on from there: {provenance.command()}"
    )


__all__ = ["Interrupted", "StopRequest", "Terminated", "Watch", "standing_of"]
