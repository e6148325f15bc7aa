"""Files that were made to do harm: pickles, names that are paths, text that is markup, and small files that ask for much."""

import io
import json
import os
import pickle
import shutil
import struct
import zipfile
import zlib
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from experiments.command_line import Options, load
from jaxinfl import Dataset, Ensemble, RunDirectoryError, load_dataset, plots
from jaxinfl.datasets import npz
from jaxinfl.report import save_figure
from tests.example_images import arrays, png, random_images, write_folder
from tests.small_ensembles import keys_of, subsets, train


class Planted:
    """Unpickled, it makes a file."""

    def __init__(self, canary):
        self.canary = str(canary)

    def __reduce__(self):
        return open, (self.canary, "w")


@pytest.fixture
def canary(tmp_path):
    """Path of a file that a pickle makes when it is executed; the test fails if it is there at the end."""
    path = tmp_path / "executed"
    pickle.loads(pickle.dumps(Planted(path))).close()
    assert path.exists()  # it would be noticed
    path.unlink()
    yield path
    assert not path.exists()


def npz_arrays(**changes):
    given = arrays()
    named = {f"{'x' if kind == 'inputs' else 'y'}_{split}": given[f"{split}_{kind}"]
             for split in ("train", "test") for kind in ("inputs", "targets")}  # fmt: skip
    return named | changes


# --- pickles ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["x_train", "y_test", "class_names"])
def test_npz_with_a_pickle_in_it(tmp_path, canary, key):
    planted = np.empty(6, object)
    planted[:] = [Planted(canary)] * 6
    np.savez(tmp_path / "pets.npz", **npz_arrays(**{key: planted}))
    with pytest.raises(ValueError, match=rf"{key} in .*pets\.npz holds pickled Python objects .*never loaded"):
        load_dataset(tmp_path / "pets.npz")


@pytest.mark.parametrize("name", ["pets.npz", "pets/train/cat/1.png"])
def test_a_pickle_in_place_of_a_file(tmp_path, canary, name):
    content = pickle.dumps(Planted(canary))
    root = write_folder(tmp_path, {"pets/train/dog/1.png": content, "pets/test/dog/1.png": content, name: content})
    with pytest.raises(ValueError, match=r"pets\.npz is not a readable|1\.png cannot be read as an image"):
        load_dataset(root / name.split("/")[0])


@pytest.mark.parametrize("name", ["images.npy", "labels.npy", "about.json"])
def test_a_pickle_in_the_cache_of_images(tmp_path, canary, monkeypatch, caplog, name):
    """The pickle is not loaded, and the entry of the cache is replaced."""
    monkeypatch.setenv("JAXINFL_IMAGE_CACHE", str(tmp_path / "cache"))
    files = {
        f"pets/{split}/{pet}/1.png": png(random_images(1)[0]) for split in ("train", "test") for pet in ("cat", "dog")
    }
    root = write_folder(tmp_path, files) / "pets"
    fingerprint = load_dataset(root).fingerprint
    (kept,) = (tmp_path / "cache").iterdir()
    for content in (pickle.dumps(Planted(canary)), npy(np.array([Planted(canary)] * 4, object))):
        (kept / name).write_bytes(content)
        assert load_dataset(root).fingerprint == fingerprint
        assert f"{kept} is damaged" in caplog.text
        caplog.clear()
        assert load_dataset(root).fingerprint == fingerprint and not caplog.text


def npy(values):
    content = io.BytesIO()
    np.save(content, values, allow_pickle=True)
    return content.getvalue()


@pytest.fixture(scope="module")
def finished(toy, tmp_path_factory):
    """A run with weights."""
    return train(
        subsets(), keys_of(6), toy, run_dir=tmp_path_factory.mktemp("run") / "run", keep_weights=True
    )._store.path


def test_a_pickle_in_place_of_any_file_of_a_run(finished, tmp_path, canary):
    """Whatever file it stands for, nothing is executed; what is read of it is refused by the name of its array or folder."""
    content, refused = pickle.dumps(Planted(canary)), 0
    for file in sorted(path.relative_to(finished) for path in finished.rglob("*") if path.is_file()):
        run = tmp_path / "run"
        shutil.copytree(finished, run)
        (run / file).write_bytes(content)
        try:
            runs = Ensemble.open(run)
            for name in ("masks", "key_data", "train_targets", "test_targets", "train_margin", "test_prediction"):
                getattr(runs, name)
            runs.weights()
        except RunDirectoryError as error:
            assert str(run) in str(error), file
            refused += 1
        shutil.rmtree(run)
    assert refused >= 10


@pytest.mark.filterwarnings("ignore::UserWarning")  # Zarr's, of codecs that are not in its specification
@pytest.mark.parametrize("codec", ["pickle", "numcodecs.pickle"])
def test_an_array_of_a_run_that_asks_for_unpickling(finished, tmp_path, canary, codec):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    for path in (run / "masks" / "zarr.json", run / "zarr.json"):
        description = json.loads(path.read_text())
        array = (
            description if path.parent.name == "masks" else description["consolidated_metadata"]["metadata"]["masks"]
        )
        array["codecs"] = [{"name": codec, "configuration": {}}]
        path.write_text(json.dumps(description))
    for chunk in (run / "masks" / "c").rglob("*"):
        if chunk.is_file():
            chunk.write_bytes(pickle.dumps([Planted(canary)]))
    with pytest.raises(RunDirectoryError, match="run"):
        _ = Ensemble.open(run).masks


# --- names that are paths --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../../x", "/etc/x", "a/../../b", "~/x", "..", "C:\\x", "a\u2044b", ".", "x" * 300])
def test_names_of_data_sets_stay_in_the_folder_of_results(tmp_path, name, monkeypatch):
    data = Dataset(**arrays(name=name))
    monkeypatch.setattr("jaxinfl.cli.data_options.load_dataset", lambda *_, **__: data)
    _, out = load(Options(), "figure", "tiny")
    assert out.parent == Path("results/figure") and out.name not in (".", "..")
    (tmp_path / out).mkdir(parents=True)


def test_keys_of_a_zip_file_are_no_paths(tmp_path):
    """Members are read by the names that are taken; none is ever extracted."""
    folder = tmp_path / "in" / "it"
    folder.mkdir(parents=True)
    np.savez(folder / "pets.npz", **npz_arrays())
    with zipfile.ZipFile(folder / "pets.npz", "a") as archive:
        for name in ("../../escaped", "/escaped", "..\\escaped", "class_names/../../../escaped.npy"):
            archive.writestr(name, b"x")
    before = {path for path in tmp_path.rglob("*")}
    assert load_dataset(folder / "pets.npz").num_train == 6
    assert {path for path in tmp_path.rglob("*")} == before


def test_links_and_odd_names_in_an_image_folder_write_nothing(tmp_path, monkeypatch):
    """What a link points to is read; nothing is written but the cache, under a name of its own."""
    monkeypatch.setenv("JAXINFL_IMAGE_CACHE", str(tmp_path / "cache"))
    files = {
        f"pets/{split}/{pet}/1.png": png(random_images(1)[0]) for split in ("train", "test") for pet in ("..x", "b;c")
    }
    root = write_folder(tmp_path, {name.replace("..x", "a..x"): content for name, content in files.items()}) / "pets"
    elsewhere = write_folder(tmp_path, {"elsewhere/2.png": png(random_images(1)[0])}) / "elsewhere"
    (root / "train" / "linked").symlink_to(elsewhere)
    before = {path for path in tmp_path.rglob("*")}
    data = load_dataset(root)
    assert data.class_names == ("a..x", "b;c", "linked") and data.num_train == 3
    written = {path.relative_to(tmp_path).parts[0] for path in set(tmp_path.rglob("*")) - before}
    assert written == {"cache"}
    (kept,) = (tmp_path / "cache").iterdir()
    assert len(kept.name) == 32 and set(kept.name) <= set("0123456789abcdef")


# --- text ------------------------------------------------------------------------------------------------------------

HOSTILE = (
    "<script>alert(1)</script>",
    "$\\frac{",
    "a & \"b\" 'c'",
    "$x$",
    "]]>",
    "&#0;",
    "\u202ereversed",
    "%s{0}",
    "[red]x[/red]",
)


@pytest.mark.parametrize("name", ["a\x1b[31mred", "a\nb", "\0", "a\x9fb", "half \udcff"])
def test_names_that_cannot_be_written_are_refused(name):
    with pytest.raises(ValueError, match=r"class_names holds .* control characters or is no valid text"):
        Dataset(**arrays(class_names=("a", name, "c")))
    with pytest.raises(ValueError, match="name holds"):
        Dataset(**arrays(name=name))


def test_a_class_folder_whose_name_is_no_text(tmp_path):
    root = write_folder(tmp_path, {f"pets/{split}/cat/1.png": png(random_images(1)[0]) for split in ("train", "test")})
    for split in ("train", "test"):
        folder = os.fsencode(root / "pets" / split) + b"/dog\xff"
        os.mkdir(folder)
        (root / "pets" / split / "cat" / "1.png").rename(Path(os.fsdecode(folder)) / "1.png")
        (root / "pets" / split / "cat" / "2.png").write_bytes(png(random_images(1)[0]))
    with pytest.raises(ValueError, match=r"class_names holds 'dog\\udcff'"):
        load_dataset(root / "pets")


@pytest.mark.parametrize("name", HOSTILE)
def test_figures_show_any_name(tmp_path, name):
    """Neither markup in the file nor a formula that cannot be read."""
    images = random_images(2, 4, 4)
    matrix = np.eye(2)
    values = {name: np.array([0.1, 0.2]), f"{name}2": np.array([0.3])}
    figures = [
        plots.pairs_gallery(images, images, [name] * 2, [name] * 2, [name] * 2, title=name),
        plots.pairs_texts([name] * 2, [name] * 2, [name] * 2, [name] * 2, [name] * 2, title=name),
        plots.pairs_profiles(matrix, matrix, [name] * 2, [name] * 2, [name] * 2, title=name),
        plots.agreement_figure({name: matrix}, title=name),
        plots.strips_figure({name: values}, ylabel="y", title=name),
        plots.shares_figure({name: {"net": np.array([0.0, 1.0])}}, 3, title=name),
        plots.sweep_figure(np.full((1, 1), 0.5), np.zeros((1, 1), bool), ["1"], ["none"], (0, 0), title=name),
    ]
    for number, figure in enumerate(figures):
        figure.dpi = 20
        _, drawn = save_figure(figure, tmp_path, str(number))
        tags = {element.tag.rpartition("}")[2] for element in ElementTree.parse(drawn).iter()}
        assert "text" in tags and "script" not in tags


# --- small files that ask for much -----------------------------------------------------------------------------------


def npz_with(path, member, content):
    np.savez(path, **{key: value for key, value in npz_arrays().items() if key != member})
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{member}.npy", content)


def header(shape, descr="|u1", version=(1, 0)):
    content = io.BytesIO()
    about = {"descr": descr, "fortran_order": False, "shape": shape}
    write = np.lib.format.write_array_header_1_0 if version == (1, 0) else np.lib.format.write_array_header_2_0
    write(content, about)
    return content.getvalue()


def test_npz_is_bounded_by_the_memory_of_the_machine(tmp_path, monkeypatch):
    """Zeros compress a thousandfold: what counts is what the headers declare, all arrays together."""
    monkeypatch.setattr(npz, "memory_limit", lambda: 10_000_000)
    npz_with(tmp_path / "one.npz", "x_train", header((6, 2000, 2000)) + bytes(24_000_000))
    assert (tmp_path / "one.npz").stat().st_size < 100_000
    with pytest.raises(
        ValueError, match=r"x_train in .*one\.npz declares shape \(6, 2000, 2000\) uint8, 0\.0224 GiB\. At most .* GiB"
    ):
        load_dataset(tmp_path / "one.npz")
    large = {key: np.zeros((n, 1000, 1000), np.uint8) for key, n in (("x_train", 6), ("x_test", 4))}
    np.savez_compressed(tmp_path / "two.npz", **npz_arrays(**large))
    with pytest.raises(
        ValueError, match=r"two\.npz declares x_train \(6, 1000, 1000\), .*: 0\.00931 GiB\. At most 0\.00931 GiB"
    ):
        load_dataset(tmp_path / "two.npz")


def test_the_memory_limit_is_that_of_the_machine():
    assert 2**28 < npz.memory_limit() <= npz.MOST_BYTES


def test_npz_with_an_endless_header(tmp_path):
    npz_with(tmp_path / "a.npz", "x_train", b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**31) + bytes(2**20))
    with pytest.raises(ValueError, match=r"x_train in .*a\.npz is not a readable array \(a header of 2147483648 bytes"):
        load_dataset(tmp_path / "a.npz")


def test_npz_with_more_names_than_classes_can_be(tmp_path):
    """A trillion names of no bytes each."""
    np.savez(tmp_path / "a.npz", **npz_arrays())
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as archive:
        archive.writestr("class_names.npy", header((10**12,), "<U0"))
    with pytest.raises(ValueError, match=r"a\.npz declares 1000000000000 class_names for 6 training labels"):
        load_dataset(tmp_path / "a.npz")


def test_npz_whose_member_is_longer_than_declared(tmp_path):
    npz_with(tmp_path / "a.npz", "x_train", header((6, 4, 5, 3)) + bytes(360 + 10**6))
    with pytest.raises(ValueError, match=r"x_train in .* 360 bytes, but the file holds 1000360"):
        load_dataset(tmp_path / "a.npz")


def huge_png(side):
    """A PNG that declares side x side pixels and holds none."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    about = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + about + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [10_000, 60_000])
@pytest.mark.parametrize("image_size", [None, 8])
def test_images_that_declare_too_much(tmp_path, side, image_size):
    """Pillow warns of the first and refuses the second; both are refused here, before anything is decoded."""
    files = {
        f"pets/{split}/{pet}/1.png": png(random_images(1)[0]) for split in ("train", "test") for pet in ("cat", "dog")
    }
    root = write_folder(tmp_path, files | {"pets/train/dog/2.png": huge_png(side)}) / "pets"
    with pytest.raises(
        ValueError,
        match=rf"2\.png is too large: Image size \({side**2} pixels\) exceeds limit of \d+",
    ):
        load_dataset(root, image_size=image_size)


def test_an_image_cut_short(tmp_path):
    files = {
        f"pets/{split}/{pet}/1.png": png(random_images(1)[0]) for split in ("train", "test") for pet in ("cat", "dog")
    }
    root = write_folder(tmp_path, files | {"pets/train/dog/2.png": huge_png(5000)}) / "pets"
    with pytest.raises(ValueError, match=r"2\.png cannot be read as an image"):
        load_dataset(root, image_size=8)


def test_a_cached_header_that_declares_too_much(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("JAXINFL_IMAGE_CACHE", str(tmp_path / "cache"))
    files = {
        f"pets/{split}/{pet}/1.png": png(random_images(1)[0]) for split in ("train", "test") for pet in ("cat", "dog")
    }
    root = write_folder(tmp_path, files) / "pets"
    fingerprint = load_dataset(root).fingerprint
    (kept,) = (tmp_path / "cache").iterdir()
    for name, descr in (("images", "|u1"), ("labels", "<i4")):
        (kept / f"{name}.npy").write_bytes(b"\x93NUMPY\x01\x00" + header((10**13,), descr)[8:])
        assert load_dataset(root).fingerprint == fingerprint and "is damaged" in caplog.text
        caplog.clear()


def test_resizing_is_bounded(monkeypatch):
    monkeypatch.setattr("jaxinfl.datasets.images.MOST_BYTES", 10**6)
    with pytest.raises(ValueError, match=r"image_size 64 makes 0\.00548 GiB of 1437 images; at most 0\.000931 GiB"):
        load_dataset("digits", image_size=64)
