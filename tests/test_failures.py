"""Full disks, read-only folders, drives that vanish, data sets that do not fit: one clear line, and nothing is lost."""

import resource
import shutil

import pytest

from jaxinfl import Ensemble, devices
from jaxinfl.store import RunStore, WriteFailed
from jaxinfl.training import run
from jaxinfl.training.machine import OutOfMemory
from tests.small_run import assert_same, train


@pytest.fixture(scope="module")
def whole(toy):
    return train(toy)


def failing_after(monkeypatch, shards, fail):
    """Let something happen before a shard is written."""
    write, written = RunStore.write, []

    def writing(self, *arguments):
        if len(written) == shards:
            fail(self.path)
        written.append(arguments)
        write(self, *arguments)

    monkeypatch.setattr(RunStore, "write", writing)


def test_a_disk_that_is_full(toy, whole, tmp_path, monkeypatch):
    """No file may grow: the operating system itself refuses, in the middle of a shard."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with monkeypatch.context() as patch:
        failing_after(patch, 2, lambda path: resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1])))
        try:
            with pytest.raises(WriteFailed, match=r"run cannot be written: File too large\. Raise the limit"):
                train(toy, tmp_path / "run", shard_size=4)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert_same(Ensemble.open(tmp_path / "run"), whole, slice(0, 8))
    assert not list((tmp_path / "run").rglob("*.partial"))
    assert_same(train(toy, tmp_path / "run"), whole)


def test_a_drive_that_vanishes(toy, whole, tmp_path, monkeypatch):
    """Zarr would make a folder in its place; nothing is."""
    with monkeypatch.context() as patch:
        failing_after(patch, 1, lambda path: path.rename(tmp_path / "unmounted"))
        with pytest.raises(WriteFailed, match=r"has vanished while it was being written.*Bring it back"):
            train(toy, tmp_path / "run", shard_size=4)
    assert not (tmp_path / "run").exists()
    shutil.move(tmp_path / "unmounted", tmp_path / "run")
    assert_same(Ensemble.open(tmp_path / "run"), whole, slice(0, 4))
    assert_same(train(toy, tmp_path / "run"), whole)


def test_a_folder_that_is_read_only(toy, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("jaxinfl.store.lock.Path.mkdir", refuse)
    with pytest.raises(WriteFailed, match=r"cannot be written: Read-only file system\. Make it writable"):
        train(toy, tmp_path / "run")


def test_the_disk_is_looked_at_before_the_start(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "free_bytes", lambda path: 1000)
    with pytest.raises(WriteFailed, match=r"may need \d\.\d+ kB more, but 1 kB are free on its disk\. Free some space"):
        train(toy, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_data_that_does_not_fit_is_refused_before_training(toy, monkeypatch):
    monkeypatch.setattr(devices, "free_memory", lambda device: 3000)
    monkeypatch.setattr("jaxinfl.training.machine.build_programs", None)
    with pytest.raises(
        OutOfMemory, match=r"toy takes 3\.33 kB of memory 2 times.*: 52 images of 8x8x1.*would fit: 23 of these"
    ):
        train(toy)
