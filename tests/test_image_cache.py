"""Decoded images are kept on disk: made once, all at once, mapped from then on, and checked whenever they are opened."""

import logging
import os
import shutil

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from rich.console import Console

import jaxinfl
from jaxinfl import Dataset, load_dataset
from jaxinfl.datasets import cache
from jaxinfl.datasets.dataset import join_rows
from jaxinfl.training.inputs import central_view
from tests.example_images import png, random_images, write_folder

NAMES = ["train/a/0.png", "train/b/0.png", "train/b/1.png", "test/a/0.png", "test/b/0.png"]


@pytest.fixture
def root(tmp_path, monkeypatch):
    """The cache of one test."""
    monkeypatch.setenv("JAXINFL_IMAGE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path):
    pixels = [random_images(1, 20 + k, 30 - k, seed=k)[0] for k in range(len(NAMES))]
    return write_folder(tmp_path / "pets", {n: png(image) for n, image in zip(NAMES, pixels, strict=True)})


@pytest.fixture
def never_decoded(monkeypatch):
    """Call it, and from then on decoding is an error."""

    def refuse(*_):
        raise AssertionError("decoded again")

    return lambda: monkeypatch.setattr(cache, "decode_images", refuse)


def entries(root):
    return sorted(path.name for path in root.iterdir())


def test_images_are_decoded_once_and_mapped(folder, root, never_decoded):
    first = load_dataset(folder, image_size=8)
    never_decoded()
    again = load_dataset(folder, image_size=8)
    assert again.fingerprint == first.fingerprint and len(entries(root)) == 1
    (entry,) = root.iterdir()
    stored = np.load(entry / "images.npy")
    assert stored.shape == (5, 8, 8, 3) and stored.dtype == np.uint8
    np.testing.assert_array_equal(again.train_inputs, stored[:3])
    np.testing.assert_array_equal(again.test_inputs, stored[3:])
    base = again.train_inputs
    while isinstance(base.base, np.ndarray):
        base = base.base
    assert isinstance(base, np.memmap) and not again.train_inputs.flags.writeable


def test_what_is_stored_is_the_resized_center(folder, root):
    """torchvision's Resize (the longer side rounded down) and CenterCrop (half to even), with Pillow."""
    dataset = load_dataset(folder, image_size=10)
    image = Image.fromarray(random_images(1, 20, 30, seed=0)[0]).resize((15, 10), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(dataset.train_inputs[0], np.asarray(image)[:, 2:12])
    image = Image.fromarray(random_images(1, 22, 28, seed=2)[0]).resize((12, 10), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(dataset.train_inputs[2], np.asarray(image)[:, 1:11])


def test_the_center_of_the_stored_square_is_what_torchvision_evaluates(folder, root):
    """Resize(256), CenterCrop(224) in small: 32 and 28. The second is resized to an odd width, 37."""
    recipe = jaxinfl.Recipe(resized_crop=28)
    dataset = load_dataset(folder, image_size=jaxinfl.recipes.stored_side(28))
    assert dataset.image_shape == (32, 32, 3)
    for stored, k in ((dataset.train_inputs[1], 1), (dataset.test_inputs[0], 3)):
        image = Image.fromarray(random_images(1, 20 + k, 30 - k, seed=k)[0])
        image = image.resize((32 * (30 - k) // (20 + k), 32), Image.Resampling.BILINEAR)
        left, top = round((image.width - 28) / 2), round((32 - 28) / 2)
        view = central_view(jnp.asarray(stored)[None], recipe)
        np.testing.assert_array_equal(view[0], np.asarray(image.crop((left, top, left + 28, top + 28))))


@pytest.mark.parametrize(
    "change", ["size", "content", "another file", "Pillow", "background", "label", "class", "order", "split"]
)
def test_other_content_is_another_entry(folder, root, monkeypatch, change):
    """Whatever the names and dates are: content, labels, order and what is for testing."""
    first, arguments = load_dataset(folder, image_size=8), {"image_size": 8}
    a, b = folder / "train" / "a" / "0.png", folder / "train" / "b" / "0.png"
    if change == "size":
        arguments["image_size"] = 9
    elif change == "content":  # of the same length, name and date
        date = a.stat().st_mtime_ns
        a.write_bytes(png(random_images(1, 20, 30, seed=9)[0]))
        os.utime(a, ns=(date, date))
    elif change == "another file":
        a.with_name("1.png").write_bytes(png(random_images(1)[0]))
    elif change == "background":
        arguments["background"] = "black"
    elif change == "label":
        a.rename(a.with_name("t"))
        b.rename(a)
        a.with_name("t").rename(b)
    elif change == "class":  # the same images in the same order
        b.rename(a.with_name("1.png"))
    elif change == "order":
        b.rename(b.with_name("2.png"))
    elif change == "split":
        (folder / "test" / "a" / "0.png").rename(a.with_name("1.png"))
        shutil.copy(a, folder / "test" / "a" / "0.png")
    else:
        monkeypatch.setattr(cache.PIL, "__version__", "0")
    same = load_dataset(folder, **arguments).fingerprint == first.fingerprint
    assert same == (change in ("Pillow", "background"))  # these images are opaque
    assert len(entries(root)) == 2


def test_where_training_ends_is_content(tmp_path, root):
    """Images, labels and order are the same, but one more example is for testing."""
    names = ["train/a/0.png", "train/b/0.png", "train/b/1.png", "test/b/2.png"]
    folder = write_folder(tmp_path / "pets", {n: png(random_images(1, seed=k)[0]) for k, n in enumerate(names)})
    assert load_dataset(folder).num_train == 3
    (folder / "train" / "b" / "1.png").rename(folder / "test" / "b" / "1.png")
    dataset = load_dataset(folder)
    assert (dataset.num_train, dataset.num_test, len(entries(root))) == (2, 2, 2)


def test_labels_that_change_while_they_are_read(root):
    """Records may be prepared again meanwhile, with the same images."""

    class Records:
        where = "records"

        def __init__(self):
            self.labels, self.reads = np.zeros(2, np.int32), 0

        def __len__(self):
            return 2

        def __getitem__(self, index):
            self.reads += 1
            self.labels[index] = self.reads > 2
            return png(random_images(1)[0])

    def layout():
        return cache.Layout(4, 5, 3)

    with pytest.raises(
        ValueError, match=r"Labels of records were changed while the data set was loaded\. Load it again"
    ):
        cache.decode_cached({}, Records(), Records(), layout, None, "records")
    assert entries(root) == []


def test_labels_that_are_exchanged_under_equal_names_sizes_and_dates(tmp_path, root):
    """Tar, zip and rsync leave files of one date, and bitmaps have one size. Every training label is exchanged."""
    pixels = random_images(8)
    names = [f"{split}/{name}/{k}.bmp" for split in ("train", "test") for name in "ab" for k in range(2)]
    files = {name: png(image, file_format="BMP") for name, image in zip(names, pixels, strict=True)}
    folder = write_folder(tmp_path / "swapped", files)
    for file in folder.rglob("*.bmp"):
        os.utime(file, (1_700_000_000, 1_700_000_000))
    before = load_dataset(folder)
    np.testing.assert_array_equal(before.train_inputs, pixels[:4])
    (folder / "train" / "a").rename(folder / "train" / "c")
    (folder / "train" / "b").rename(folder / "train" / "a")
    (folder / "train" / "c").rename(folder / "train" / "b")
    after = load_dataset(folder)
    np.testing.assert_array_equal(after.train_inputs, pixels[[2, 3, 0, 1]])
    np.testing.assert_array_equal(after.train_targets, before.train_targets)
    assert after.fingerprint != before.fingerprint


def test_two_folders_of_equal_names_sizes_and_dates(tmp_path, root):
    for seed, name in enumerate("xy"):
        files = {file: png(random_images(1, seed=seed)[0], file_format="BMP") for file in NAMES}
        folder = write_folder(tmp_path / name / "pets", {file.replace("png", "bmp"): c for file, c in files.items()})
        for file in folder.rglob("*.bmp"):
            os.utime(file, (1_700_000_000, 1_700_000_000))
        np.testing.assert_array_equal(load_dataset(folder).train_inputs, random_images(1, seed=seed).repeat(3, axis=0))


def test_the_same_content_under_other_names_and_dates_is_decoded_once(folder, root, never_decoded):
    first = load_dataset(folder, image_size=8)
    never_decoded()
    copied = shutil.copytree(folder, folder.with_name("copied"), copy_function=shutil.copyfile)
    for old, new in (("train/b/0.png", "train/b/00.png"), ("train/a", "train/aa"), ("test/a", "test/aa")):
        (copied / old).rename(copied / new)
    again = load_dataset(copied, image_size=8)
    assert again.fingerprint == first.fingerprint and again.class_names == ("aa", "b")
    assert len(entries(root)) == 1


def test_a_file_that_changes_while_it_is_loaded_is_noticed(folder, root, monkeypatch):
    """What is decoded is what was hashed, or nothing is kept: else the cache would hold it under a wrong name."""
    decode = cache.decode_images

    def change_before(*arguments):
        (folder / "train" / "b" / "1.png").write_bytes(png(random_images(1, 22, 28, seed=9)[0]))
        return decode(*arguments)

    monkeypatch.setattr(cache, "decode_images", change_before)
    with pytest.raises(ValueError, match=r"train/b/1\.png was changed while the data set was loaded\. Load it again"):
        load_dataset(folder, image_size=8)
    assert entries(root) == []
    monkeypatch.setattr(cache, "decode_images", decode)
    assert load_dataset(folder, image_size=8).num_train == 3


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("harm", [flip, truncate, lambda path: path.unlink()])
@pytest.mark.parametrize("file", ["images.npy", "labels.npy", "about.json"])
def test_damage_is_found_and_the_images_decoded_again(folder, root, caplog, file, harm):
    first = load_dataset(folder, image_size=8)
    (entry,) = root.iterdir()
    expected = first.fingerprint
    del first
    harm(entry / file)
    with caplog.at_level(logging.WARNING, "jaxinfl"):
        again = load_dataset(folder, image_size=8)
    assert again.fingerprint == expected
    assert f"{entry} is damaged" in caplog.text and entries(root) == [entry.name]
    caplog.clear()
    assert load_dataset(folder, image_size=8).fingerprint == expected and not caplog.text


def test_a_conversion_that_stops_leaves_nothing(folder, root, monkeypatch):
    decode, stopped = cache.decode_images, []

    def stop(*arguments):
        if stopped:
            raise KeyboardInterrupt
        stopped.append(True)
        yield from decode(*arguments)

    monkeypatch.setattr(cache, "decode_images", stop)
    with pytest.raises(KeyboardInterrupt):
        load_dataset(folder, image_size=8)
    assert entries(root) == []
    monkeypatch.undo()


def test_a_draft_of_a_killed_process_is_not_taken(folder, root):
    """kill -9 cannot clean up: the draft has another name."""
    (root / ".draft-abc").mkdir(parents=True)
    (root / ".draft-abc" / "images.npy").write_bytes(b"half")
    assert load_dataset(folder, image_size=8).num_train == 3


def test_two_processes_at_once(folder, root, monkeypatch):
    """The one that is first has put its folder there when the other is done."""
    replace = os.replace

    def second(draft, target):
        shutil.copytree(draft, target)  # the other process' doing
        replace(draft, target)

    monkeypatch.setattr(cache.os, "replace", second)
    dataset = load_dataset(folder, image_size=8)
    assert len(entries(root)) == 1 and dataset.num_train == 3


def test_a_cache_that_cannot_be_written(folder, root, caplog, monkeypatch):
    kept = load_dataset(folder, image_size=8).fingerprint

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.os, "fsync", full)
    shutil.rmtree(root)
    with caplog.at_level(logging.WARNING, "jaxinfl"):
        dataset = load_dataset(folder, image_size=8)
    assert dataset.fingerprint == kept and entries(root) == []
    assert "cannot be kept in" in caplog.text and "No space left on device" in caplog.text
    assert "Set JAXINFL_IMAGE_CACHE" in caplog.text


@pytest.mark.parametrize(("is_terminal", "shown"), [(True, True), (False, False)])
def test_progress_is_shown_on_a_terminal(folder, root, monkeypatch, capsys, is_terminal, shown):
    monkeypatch.setattr(cache, "Console", lambda stderr: Console(stderr=stderr, force_terminal=is_terminal))
    load_dataset(folder, image_size=8)
    captured = capsys.readouterr()
    assert ("decoding" in captured.err) == ("reading" in captured.err) == shown and not captured.out


def test_where_the_cache_lies(monkeypatch, tmp_path):
    monkeypatch.setenv("JAXINFL_IMAGE_CACHE", str(tmp_path))
    assert cache.cache_root() == tmp_path
    monkeypatch.delenv("JAXINFL_IMAGE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.cache_root() == tmp_path / "jaxinfl" / "images"


# --- no needless copies ----------------------------------------------------------------------------------------------


def test_a_cached_data_set_is_joined_without_a_copy(folder, root):
    dataset = load_dataset(folder, image_size=8)
    whole = join_rows(dataset.train_inputs, dataset.test_inputs)
    assert np.shares_memory(whole, dataset.train_inputs) and np.shares_memory(whole, dataset.test_inputs)
    np.testing.assert_array_equal(whole, np.concatenate([dataset.train_inputs, dataset.test_inputs]))


def test_other_arrays_are_copied():
    images = random_images(6)
    for first, second in (
        (images[:4], images[3:]),  # not one behind the other
        (images[4:], images[:4]),
        (images[:4, ::2], images[4:, ::2]),
        (images[:4], images[4:].copy()),
    ):
        whole = join_rows(first, second)
        np.testing.assert_array_equal(whole, np.concatenate([first, second]))
        assert not np.shares_memory(whole, images)


def test_training_takes_mapped_images(folder, root):
    """The models are the same as from arrays in memory."""
    mapped = load_dataset(folder, image_size=8)
    images = {name: np.array(getattr(mapped, name)) for name in ("train_inputs", "test_inputs")}
    plain = Dataset(**images, train_targets=mapped.train_targets, test_targets=mapped.test_targets)
    masks, keys = np.ones((2, 3), bool), jaxinfl.ModelKeys.split(np.arange(4, dtype=np.uint32).reshape(2, 2))
    margins = [
        jaxinfl.train_ensemble(
            masks, keys, data=data, model="small_mlp", recipe=jaxinfl.Recipe(epochs=1), progress=False
        ).test_margin
        for data in (mapped, plain)
    ]
    np.testing.assert_array_equal(*margins)


# --- channel_statistics ----------------------------------------------------------------------------------------------


def test_channel_statistics_are_mean_and_deviation(monkeypatch):
    images = random_images(9, 5, 4) // np.array([1, 2, 3], np.uint8)
    data = Dataset(
        train_inputs=images, train_targets=np.arange(9) % 2, test_inputs=images, test_targets=np.arange(9) % 2
    )
    values = images.astype(np.float64) / 255
    expected = np.stack([values.mean((0, 1, 2)), values.std((0, 1, 2))], axis=1)
    np.testing.assert_allclose(jaxinfl.channel_statistics(data), expected, rtol=1e-12)
    monkeypatch.setattr("jaxinfl.datasets.statistics._AT_ONCE", 100)  # an image at a time
    np.testing.assert_allclose(jaxinfl.channel_statistics(data), expected, rtol=1e-12)
    assert jaxinfl.Recipe(normalization=jaxinfl.channel_statistics(data)).normalization[2][0] == pytest.approx(
        expected[2, 0]
    )


def test_a_constant_channel_is_refused():
    images = random_images(4)
    images[..., 1] = 7
    data = Dataset(
        train_inputs=images, train_targets=np.arange(4) % 2, test_inputs=images, test_targets=np.arange(4) % 2
    )
    with pytest.raises(ValueError, match=r"channel 1 of arrays is constant.*Normalize by"):
        jaxinfl.channel_statistics(data)
