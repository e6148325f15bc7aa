"""Requests to stop: which signals ask, which do not, and whose handlers are called when everything is saved."""

import os
import signal

import pytest

from jaxinfl.training.interrupts import Interrupted, StopRequest, Terminated


@pytest.fixture
def handlers():
    """Put the handlers of a test process back."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def send(*numbers):
    for number in numbers:
        os.kill(os.getpid(), number)


@pytest.mark.parametrize(
    ("numbers", "error"),
    [((signal.SIGINT,), Interrupted), ((signal.SIGTERM,), Terminated)],
)
def test_one_signal_asks(numbers, error, handlers):
    with pytest.raises(error), StopRequest(kept=True) as stop:
        send(*numbers)
        assert stop.asked == numbers[0]
        stop.leave_if_asked()


@pytest.mark.parametrize(
    "numbers",
    [(signal.SIGUSR2,), (signal.SIGTERM, signal.SIGUSR2), (signal.SIGUSR2, signal.SIGTERM), (signal.SIGUSR2,) * 2],
)
def test_usr2_asks_where_somebody_handles_it(numbers, handlers):
    """A scheduler may send SIGTERM before it or after it; the handler that puts the job back is called when everything is saved."""
    called = []
    signal.signal(signal.SIGUSR2, lambda number, frame: called.append(number))
    with pytest.raises(Terminated) as ended, StopRequest(kept=True) as stop:
        send(*numbers)
        assert not called and stop.asked == signal.SIGUSR2
        stop.leave_if_asked()
    assert called == [signal.SIGUSR2] and ended.value.code == 128 + signal.SIGUSR2


def test_a_second_request_does_not_wait(handlers):
    with pytest.raises(KeyboardInterrupt), StopRequest(kept=True):
        send(signal.SIGINT, signal.SIGINT)
        pytest.fail("the second one is not waited for")


def test_signals_that_are_ignored_stay_ignored(handlers):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with StopRequest(kept=True) as stop:
        send(signal.SIGINT)
        assert stop.asked is None


def test_usr2_is_not_touched_where_nobody_handles_it(handlers):
    signal.signal(signal.SIGUSR2, signal.SIG_DFL)
    with StopRequest(kept=True):
        assert signal.getsignal(signal.SIGUSR2) is signal.SIG_DFL
