"""Ctrl-C and SIGTERM, which pre-empted machines send: a run stops between two calls, when what it has done is saved."""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any, Self

from jaxinfl import provenance
from jaxinfl.store import ABSENT, RunStore


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, after everything was saved and the way to go on was printed."""


class Terminated(SystemExit):
    """SIGTERM, after the same; the exit status is the one that shells give to it."""

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGTERM)


class StopRequest:
    """While it is entered, the two signals only ask; a second one stops at once.

    Signals reach the main thread alone: entered in another thread, it changes nothing.
    """

    def __init__(self) -> None:
        self.asked: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                # None: a handler that was not installed from Python, and could not be put back.
                if signal.getsignal(number) is not None:
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def leave(self) -> None:
        """Do what was asked, now that everything is saved: the user's own handler first, where there is one.

        Raises:
          Interrupted, Terminated: always.
        """
        asked = self.asked
        handler = self._before.get(asked) if asked else None
        self._restore()
        if asked and callable(handler) and handler is not signal.default_int_handler:
            signal.raise_signal(asked)
        raise Terminated if asked == signal.SIGTERM else Interrupted

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked is None:
            self.asked = signal.Signals(number)
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
    """Says when it is time for a checkpoint."""

    def __init__(self, every: float, stop: StopRequest):
        """`every`: seconds of work that may be lost."""
        self._every, self._stop = every, stop
        self.saved()

    @property
    def stopping(self) -> bool:
        """Whether to save and leave."""
        return self._stop.asked is not None

    @property
    def due(self) -> bool:
        """Whether to save."""
        return self.stopping or time.monotonic() - self._last >= self._every

    def saved(self) -> None:
        """Note that everything up to now is on disk."""
        self._last = time.monotonic()

    def leave_if_asked(self) -> None:
        """Leave, if a signal asked for it; everything is saved by now."""
        if self.stopping:
            self._stop.leave()


@contextlib.contextmanager
def leaving_with_a_word(store: RunStore) -> Iterator[StopRequest]:
    """Around the training of a run: signals only ask where it is kept on disk, and who leaves says how to go on."""
    if store.path is None:
        yield StopRequest()
        return
    try:
        with StopRequest() as stop:
            yield stop
    except (KeyboardInterrupt, Terminated):
        status = store.own_status()
        finished = int((status != ABSENT).sum())
        print(
            f"\nStopped: {finished} of {len(status)} models are finished and kept in {store.path}, with those on the way. "
            f"The same call goes on from there: {provenance.command()}",
            file=sys.stderr,
        )
        raise


__all__ = ["Interrupted", "StopRequest", "Terminated", "Watch", "leaving_with_a_word"]
