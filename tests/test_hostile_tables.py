"""Parquet, CSV and archives that are damaged at random, or small and ask for much: refused by their names, within bounds."""

import gzip
import io
import shutil
import tarfile
import tracemalloc

import numpy as np
import pyarrow as pa
import pytest

from jaxinfl import load_dataset
from jaxinfl.datasets import cifar_binary, npz
from jaxinfl.datasets.parquet_sizes import measure_pages, read_row_groups
from tests.example_tables import (
    cifar10,
    csv_text,
    hub,
    make_table,
    write_archive,
    write_csv,
    write_images,
    write_parquet,
    write_tables,
)
from tests.test_hostile_files import huge_png

MEGABYTE = 10**6


def tables(root, **options):
    small = hub(
        make_table().select(["age", "colour", "tokens", "embedding"]).append_column("label", pa.array([0, 1] * 15)),
        label=["a", "b"],
    )
    write_tables(root, small, small, row_group_size=16, write_page_checksum=True, **options)
    return root, root / "train.parquet", {"categories": ["colour"]}


def images(root):
    write_images(root, row_group_size=5, write_page_checksum=True)
    return root, root / "data" / "train-00000-of-00002.parquet", {}


def csv(root):
    write_csv(root, csv_text(), csv_text(5))
    return root, root / "train.csv", {"targets": "price", "categories": ["kind"]}


def archive(root):
    root.mkdir()
    path = write_archive(root / "cifar-10-binary.tar.gz", cifar10(2)[0])
    return path, path, {}


def damage(content, rng, kind):
    """A file cut short, or with some bytes changed."""
    if kind == "cut":
        return content[: rng.integers(0, len(content))]
    changed = bytearray(content)
    for place in rng.integers(0, len(content), rng.integers(1, 6)):
        changed[place] ^= int(rng.integers(1, 256))
    return bytes(changed)


@pytest.mark.parametrize("kind", ["cut", "changed"])
@pytest.mark.parametrize("source", [tables, images, csv, archive])
def test_damage_is_refused_or_harmless(tmp_path, source, kind):
    """Every damaged file is a ValueError that names it, or the same data; CSV has no checksum, so its values may differ."""
    name, file, options = source(tmp_path / "data")
    whole, content = load_dataset(name, **options).fingerprint, file.read_bytes()
    rng, refused = np.random.default_rng(0), 0
    for _ in range(60):
        file.write_bytes(damage(content, rng, kind))
        try:
            found = load_dataset(name, **options)
        except ValueError as error:
            assert str(tmp_path) in str(error)
            refused += 1
        else:
            assert source is csv or found.fingerprint == whole
    assert refused >= 30


@pytest.mark.slow
def test_a_footer_that_ends_other_readers(tmp_path):
    """pyarrow 26 ends the process where it shows the sizes of a column of some damaged footers."""
    _, file, _ = tables(tmp_path / "data")
    content = file.read_bytes()
    length = int.from_bytes(content[-8:-4], "little")
    rng = np.random.default_rng(1)
    for _ in range(300):
        changed = bytearray(content)
        changed[-8 - int(rng.integers(1, length))] ^= int(rng.integers(1, 256))
        file.write_bytes(bytes(changed))
        try:
            load_dataset(tmp_path / "data", categories=["colour"])
        except ValueError as error:
            assert str(tmp_path) in str(error)


@pytest.fixture
def little_memory(monkeypatch):
    monkeypatch.setattr(npz, "memory_limit", lambda: 4 * MEGABYTE)
    pool = pa.default_memory_pool()
    pool.release_unused()
    return lambda: pool.max_memory()


LABELS = [0, 1] * 40
BOMBS = {
    "a column of zeros": ({"x": np.zeros(2 * MEGABYTE), "label": np.zeros(2 * MEGABYTE)}, r"declares 0\.0\d+ GiB"),
    "long lists": (
        {"x": pa.array([np.zeros(MEGABYTE)] * 2, pa.list_(pa.float64())), "label": [0, 1]},
        r"train set declares 0\.\d+ GiB\. At most",
    ),
    "one long text, repeated": (
        {"x": np.zeros(80), "label": [f"{k}" + "x" * 300_000 for k in LABELS]},
        r"train set holds 0\.0\d+ GiB\. At most",
    ),
    "one long page": ({"image": [bytes(MEGABYTE)] * 8, "label": LABELS[:8]}, r"row group 0 of .* declares 0\.0\d+ GiB"),
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_small_parquet_files_that_ask_for_much(tmp_path, little_memory, name):
    columns, message = BOMBS[name]
    table = pa.table(columns)
    write_parquet(
        tmp_path / "train.parquet", table, compression="zstd", use_dictionary=["label" if "text" in name else "x"]
    )
    write_parquet(tmp_path / "test.parquet", table.slice(0, 2))
    assert (tmp_path / "train.parquet").stat().st_size < 60_000
    del table
    before = little_memory()
    with pytest.raises(ValueError, match=message):
        load_dataset(tmp_path)
    assert little_memory() - before < 16 * MEGABYTE


def test_repeated_images_are_read_few_at_a_time(tmp_path, little_memory):
    """A dictionary of one long value makes each row of a few bits as long."""
    table = pa.table({"image": [b"x" * 900_000] * 80, "label": LABELS})
    write_parquet(tmp_path / "train.parquet", table, compression="zstd")
    write_parquet(tmp_path / "test.parquet", table.slice(0, 2), compression="zstd")
    assert (tmp_path / "train.parquet").stat().st_size < 5_000
    del table
    before = little_memory()
    with pytest.raises(ValueError, match=r"image 0 of .*, train set cannot be read as an image"):
        load_dataset(tmp_path)
    assert little_memory() - before < 16 * MEGABYTE


def test_sizes_are_those_of_the_pages(tmp_path):
    """What this code reads of a file is what pyarrow wrote into it, whatever the version of pages and the encoding."""
    for version in ("1.0", "2.0"):
        for dictionary in (True, False):
            path = tmp_path / "a.parquet"
            write_parquet(path, make_table(5000), data_page_version=version, use_dictionary=dictionary,
                          row_group_size=2000, data_page_size=1000, write_batch_size=64)  # fmt: skip
            groups = read_row_groups(path)
            assert [group.rows for group in groups] == [2000, 2000, 1000]
            for group in groups:
                sizes = {chunk.column: chunk for chunk in group.chunks}
                assert sizes["age"].width == 8 and sizes["insured"].width == 1 and sizes["colour"].width is None
                assert sizes["tokens"].values == 3 * group.rows and sizes["label"].values == group.rows
                assert measure_pages(path, [sizes["age"]])[0] >= 8 * group.rows
                assert 0 < measure_pages(path, [sizes["colour"]])[1] < 20_000


def test_pages_that_hold_more_than_the_footer_says(tmp_path):
    path = tmp_path / "a.parquet"
    write_parquet(path, make_table(50))
    (group,) = read_row_groups(path)
    with pytest.raises(ValueError, match="pages of 'age' hold 50 values, and 49 are declared"):
        measure_pages(path, [group.chunks[0]._replace(values=49)])


@pytest.mark.parametrize("side", [10_000, 60_000])
def test_images_inside_that_declare_too_much(tmp_path, side):
    write_images(tmp_path)
    bomb = pa.table({"image": [{"bytes": huge_png(side), "path": ""}] * 2, "label": [0, 1]})
    shutil.rmtree(tmp_path / "data")
    write_tables(tmp_path, bomb, bomb)
    with pytest.raises(ValueError, match=rf"image 0 of .*, train set is too large: Image size \({side**2} pixels\)"):
        load_dataset(tmp_path)


def test_tables_of_many_columns_or_empty_values(tmp_path, little_memory, monkeypatch):
    header = ",".join(f"c{k}" for k in range(1000)) + "\n"
    write_csv(tmp_path, header + ("," * 999 + "\n") * 2000, header)
    assert (tmp_path / "train.csv").stat().st_size < 4 * MEGABYTE
    with pytest.raises(ValueError, match=r"train\.csv needs 0\.0\d+ GiB for its values\. At most"):
        load_dataset(tmp_path, targets="c0")
    write_csv(tmp_path, b"x,y\n" + b"1,1\n" * 2 * MEGABYTE, header)
    with pytest.raises(ValueError, match=r"train\.csv holds 0\.0\d+ GiB\. At most"):
        load_dataset(tmp_path, targets="y")
    write_csv(tmp_path, "," * 2**17 + "y\n", "x\n")
    with pytest.raises(ValueError, match=r"train\.csv has 131073 columns; at most 131072"):
        load_dataset(tmp_path, targets="y")


def bomb(path, what):
    """A small archive that unpacks to 64 MB of zeros: as a file that is taken, another, a long name, or behind the end."""
    with gzip.open(path, "wb") as packed, tarfile.open(fileobj=packed, mode="w|") as archive:
        if what != "behind the end":
            about = tarfile.TarInfo("test_batch.bin" if what == "a file" else "other")
            about.size, about.type = 64 * MEGABYTE, tarfile.GNUTYPE_LONGNAME if what == "a name" else tarfile.REGTYPE
            archive.addfile(about, io.BytesIO(bytes(about.size)))
    if what == "behind the end":
        with gzip.open(path, "ab") as packed:
            packed.write(bytes(64 * MEGABYTE))
    return path


@pytest.mark.parametrize("what", ["a file", "another", "a name", "behind the end"])
def test_archives_that_unpack_to_too_much(tmp_path, monkeypatch, what):
    monkeypatch.setattr(cifar_binary, "_MOST_BYTES", 2 * MEGABYTE)
    path = bomb(tmp_path / "a.tar.gz", what)
    assert path.stat().st_size < MEGABYTE
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"a\.tar\.gz unpacks to more than 2 MiB"):
        load_dataset(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 * MEGABYTE


def test_archives_that_are_something_else(tmp_path):
    for content in (
        b"",
        b"something else",
        gzip.compress(b""),
        gzip.compress(b"x" * 10_000),
        gzip.compress(gzip.compress(b"x")),
    ):
        (tmp_path / "a.tar.gz").write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.tar\.gz is (not a readable|no binary version)"):
            load_dataset(tmp_path / "a.tar.gz")
