"""Where jaxinfl's own files lie, and that a file or folder takes the place of an older one all at once."""

import os
import resource
from pathlib import Path

import pytest

from jaxinfl import files
from jaxinfl.files import cache_folder, replace_atomically, write_atomically


def test_the_cache_is_where_the_system_keeps_caches(monkeypatch, tmp_path):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(files, "user_cache_path", lambda name, appauthor: tmp_path / "system" / name)
    assert cache_folder("native") == tmp_path / "system" / "jaxinfl" / "native"


@pytest.mark.skipif(os.uname().sysname != "Linux", reason="other systems keep their caches elsewhere")
def test_the_cache_on_linux(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder("native") == Path.home() / ".cache" / "jaxinfl" / "native"


def test_environment_variables_name_other_folders(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("JAXINFL_IMAGE_CACHE", raising=False)
    assert cache_folder("images", variable="JAXINFL_IMAGE_CACHE") == tmp_path / "xdg" / "jaxinfl" / "images"
    monkeypatch.setenv("JAXINFL_IMAGE_CACHE", str(tmp_path / "own"))
    assert cache_folder("images", variable="JAXINFL_IMAGE_CACHE") == tmp_path / "own"
    monkeypatch.setenv("JAXINFL_IMAGE_CACHE", "~/images")
    assert cache_folder("images", variable="JAXINFL_IMAGE_CACHE") == Path.home() / "images"
    monkeypatch.setenv("XDG_CACHE_HOME", "caches")
    assert cache_folder("native") == Path.cwd() / "caches" / "jaxinfl" / "native"


@pytest.mark.parametrize("variable", ["XDG_CACHE_HOME", "JAXINFL_IMAGE_CACHE"])
def test_environment_variables_are_checked(monkeypatch, variable):
    monkeypatch.delenv("JAXINFL_IMAGE_CACHE", raising=False)
    monkeypatch.setenv(variable, "gs://bucket/cache")
    with pytest.raises(ValueError, match=rf"{variable} is 'gs://bucket/cache'; it takes a folder .* and no address"):
        cache_folder("images", variable="JAXINFL_IMAGE_CACHE")


def test_a_file_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b"old")
    with replace_atomically(path) as draft:
        draft.write_bytes(b"new")
        assert path.read_bytes() == b"old" and draft.parent == tmp_path and draft.name.endswith(".partial")
    assert path.read_bytes() == b"new" and os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("folder", [False, True])
def test_an_error_leaves_the_old_and_no_draft(tmp_path, error, folder):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with pytest.raises(error), replace_atomically(path) as draft:
        if folder:
            draft.mkdir()
            (draft / "half").touch()
        else:
            draft.touch()
        raise error
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["a"]


def test_a_full_disk_leaves_the_old(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_atomically(path, bytes(1000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["a"]


def test_a_folder_that_vanishes_is_the_error_that_is_told(tmp_path):
    folder = tmp_path / "drive"
    folder.mkdir()
    with pytest.raises(FileNotFoundError, match="drive"), replace_atomically(folder / "a") as draft:
        draft.touch()
        folder.rename(tmp_path / "unmounted")
    assert not folder.exists()


def test_a_folder_appears_as_a_whole(tmp_path):
    with replace_atomically(tmp_path / "images") as draft:
        draft.mkdir()
        (draft / "images.npy").write_bytes(b"all")
        assert not (tmp_path / "images").exists()
    assert os.listdir(tmp_path) == ["images"] and os.listdir(tmp_path / "images") == ["images.npy"]


def test_a_file_is_on_the_disk_before_it_takes_its_name(tmp_path, monkeypatch):
    """Check the order in which a loss of power leaves the old content or the new one, never an empty file."""
    done = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(files.os, "fsync", lambda descriptor: (done.append("fsync"), sync(descriptor)))
    monkeypatch.setattr(files.os, "replace", lambda draft, path: (done.append("replace"), replace(draft, path)))
    write_atomically(tmp_path / "a", b"new")
    assert done == ["fsync", "replace"]
