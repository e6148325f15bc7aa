"""Killed or asked to stop in the middle of a shard: at most `checkpoint_every` is lost, and no bit changes."""

import os
import signal

import jax
import numpy as np
import pytest

from jaxinfl import Ensemble
from jaxinfl.store.checkpoint import CheckpointFile
from jaxinfl.training import ensemble, job, loop, run, tuning
from jaxinfl.training.interrupts import Interrupted, Terminated
from jaxinfl.training.loop import Position, Segments
from tests.small_run import MODELS, assert_same, train


class Killed(BaseException):
    """The process ends here."""


KEEP = {"keep_weights": True, "keep_outputs": "both", "keep_epochs": (1, 3)}
"""Everything that a run can keep is in its checkpoints, too."""


@pytest.fixture(scope="module", autouse=True)
def small_groups():
    """Groups of four models: two devices, two at once on each, one after another none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jaxinfl.training.machine.CALL_FLOPS", 0.0)
        yield


@pytest.fixture(scope="module")
def whole(toy, small_groups):
    return train(toy, **KEEP)


@pytest.fixture
def calls(monkeypatch):
    """Calls of a single step, all in one shard; those that a test makes, as (first model, epoch, step)."""
    monkeypatch.setattr(loop, "CALL_SECONDS", 1e-9)
    made = []
    train_group = loop.ShardTraining._train_group

    def group(self, models, started):
        made.append((models[0], *(started[1] if started else Position(0))))
        return train_group(self, models, started)

    monkeypatch.setattr(loop.ShardTraining, "_train_group", group)
    return made


def kill_after(monkeypatch, checkpoints):
    """Die when so many checkpoints are written."""
    write, written = CheckpointFile.write, []

    def dying(self, *arguments):
        write(self, *arguments)
        written.append(arguments)
        if len(written) == checkpoints:
            raise Killed

    monkeypatch.setattr(CheckpointFile, "write", dying)


@pytest.mark.parametrize("checkpoints", [1, 3, 8, 20, 31])
def test_killed_and_continued_equals_uninterrupted(toy, whole, calls, tmp_path, monkeypatch, checkpoints):
    """The run is killed in the first epoch or later, within an epoch or at its end, and in the first group or the last."""
    options = {"shard_size": MODELS, "checkpoint_every": 1e-9} | KEEP
    with monkeypatch.context() as patch:
        kill_after(patch, checkpoints)
        with pytest.raises(Killed):
            train(toy, tmp_path / "run", **options)
    assert Ensemble.open(tmp_path / "run").num_models == 0
    before = len(calls)
    runs = train(toy, tmp_path / "run", **options)
    # 5 steps an epoch of the largest subset, 3 epochs, a checkpoint after each step: groups of 4 models, 15 steps each.
    first, epoch, step = calls[before]
    assert (first // 4 * 15 + epoch * 5 + step, first % 4) == (checkpoints, 0)
    assert_same(runs, whole)
    for name in whole.scores:
        np.testing.assert_array_equal(runs.train_score(name), whole.train_score(name))
    np.testing.assert_array_equal(runs.test_outputs, whole.test_outputs)
    for one, other in zip(*(map(np.asarray, leaves(each)) for each in (runs, whole)), strict=True):
        np.testing.assert_array_equal(one, other)
    assert not list((tmp_path / "run" / "checkpoint").iterdir())


def leaves(runs):
    return jax.tree.leaves(runs.weights())


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, Interrupted), (signal.SIGTERM, Terminated)])
def test_signals_save_and_leave(toy, whole, calls, tmp_path, monkeypatch, capsys, number, error):
    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        share, asked = Segments.share, []

        def signalled(self, position):
            if position == (1, 3) and not asked:
                asked.append(position)
                os.kill(os.getpid(), number)
            return share(self, position)

        patch.setattr(Segments, "share", signalled)
        with pytest.raises(error) as caught:
            train(toy, tmp_path / "run", shard_size=MODELS)
    assert number != signal.SIGTERM or caught.value.code == 143
    said = capsys.readouterr().err
    assert f"Stopped: 0 of 9 models are finished and kept in {tmp_path / 'run'}" in said and "pytest" in said
    assert signal.getsignal(number) is before
    assert_same(train(toy, tmp_path / "run"), whole)
    assert calls[-3] == (0, 1, 3)


@pytest.mark.parametrize("moment", ["arguments", "model", "cost", "description", "results"])
@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, Interrupted), (signal.SIGTERM, Terminated)])
def test_signals_are_answered_from_the_call_to_the_return(
    toy, whole, tmp_path, monkeypatch, capsys, moment, number, error
):
    where = {
        "arguments": (ensemble, "check_place"),
        "model": (job, "build_model"),
        "cost": (tuning, "measure_cost"),
        "description": (run, "describe_run"),
        "results": (Ensemble, "open"),
    }[moment]
    original = getattr(*where)

    def signalled(*args, **kwargs):
        os.kill(os.getpid(), number)
        return original(*args, **kwargs)

    before = signal.getsignal(number)
    with monkeypatch.context() as patch, pytest.raises(error):
        patch.setattr(*where, signalled)
        train(toy, tmp_path / "run", shard_size=MODELS)
    finished = MODELS if moment == "results" else 0
    said = capsys.readouterr().err
    assert said.count("Stopped:") == 1
    assert f"Stopped: {finished} of {MODELS} models are finished and kept in {tmp_path / 'run'}" in said
    assert signal.getsignal(number) is before
    assert_same(train(toy, tmp_path / "run"), whole)


def test_a_signal_beside_an_error_is_answered(toy, tmp_path, monkeypatch, capsys, caplog):
    def failing(*args, **kwargs):
        os.kill(os.getpid(), signal.SIGTERM)
        raise ValueError("no model today")

    monkeypatch.setattr(job, "build_model", failing)
    with pytest.raises(Terminated):
        train(toy, tmp_path / "run")
    assert "no model today" in caplog.text and "Stopped:" in capsys.readouterr().err


def test_signals_are_not_touched_without_a_directory(toy, monkeypatch):
    def handler(*args):
        raise Killed

    before = signal.signal(signal.SIGTERM, handler)
    try:
        monkeypatch.setattr(run, "describe_run", lambda *args: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Killed):
            train(toy)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_short_groups_are_saved_between_calls(toy, whole, tmp_path, monkeypatch):
    """A shard of many groups whose training is one call each."""
    with monkeypatch.context() as patch:
        kill_after(patch, 2)
        with pytest.raises(Killed):
            train(toy, tmp_path / "run", shard_size=MODELS, checkpoint_every=1e-9)
    starts = []
    train_group = loop.ShardTraining._train_group
    monkeypatch.setattr(
        loop.ShardTraining,
        "_train_group",
        lambda self, *rest: (starts.append(int(rest[0][0])), train_group(self, *rest))[1],
    )
    assert_same(train(toy, tmp_path / "run"), whole)
    assert starts == [8]


def test_a_damaged_checkpoint_is_not_used(toy, whole, calls, tmp_path, monkeypatch, caplog):
    options = {"shard_size": MODELS, "checkpoint_every": 1e-9}
    with monkeypatch.context() as patch:
        kill_after(patch, 9)
        with pytest.raises(Killed):
            train(toy, tmp_path / "run", **options)
    largest = max((tmp_path / "run" / "checkpoint").rglob("*"), key=lambda path: path.is_file() and path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(bytes(content))
    before = len(calls)
    assert_same(train(toy, tmp_path / "run", **options), whole)
    assert calls[before] == (0, 0, 0) and f"{largest} is damaged" in caplog.text


def test_segments():
    """Every step once, in order, in calls that are not longer than asked for."""
    for epochs, steps, most in ((3, 5, 1), (3, 5, 2), (3, 5, 5), (7, 5, 12), (2, 5, 100), (0, 5, 3)):
        segments, at = Segments(epochs, steps, most), 0
        for segment, reached in segments.after(Position(0)):
            first = int(segment.first_epoch) * steps + int(segment.first_step)
            assert first == at
            at = reached.epoch * steps + reached.step
            assert 0 < at - first <= most
            if int(segment.last_epoch) - int(segment.first_epoch) > 1:
                assert (int(segment.first_step), reached.step) == (0, 0)
        assert at == epochs * steps
        assert segments.are_short == (epochs * steps <= most)
    assert Segments.divide(3, 5, seconds_per_step=2.0).steps_per_call == 2
    assert Segments(4, 10, 3).share(Position(1, 5)) == 0.375
