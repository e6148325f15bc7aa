"""A small table, and Parquet files, CSV files and CIFAR archives that the tests write, as others serve them."""

import io
import json
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.example_images import png, random_images

TABLE = np.repeat(np.arange(6, dtype=np.float32)[:, None], 2, axis=1)
"""Two columns of the numbers from 0 to 5."""


def table_arrays(**changes):
    """Arguments of `Dataset` for `TABLE` with two classes, but for these changes."""
    labels = np.array([0, 1, 0, 1, 0, 1])
    return {"train_inputs": TABLE, "train_targets": labels, "test_inputs": TABLE, "test_targets": labels} | changes


def hub(table, **class_names):
    """The table with class names in its schema's metadata, as the Hugging Face hub writes them."""
    features = {column: {"names": names, "_type": "ClassLabel"} for column, names in class_names.items()}
    return table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def write_parquet(path, table, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, **options)


def write_images(root, **options):
    """A folder of 20 training and 6 test images of three classes; return the pixels."""
    pixels = random_images(20, 8, 8)
    images = [{"bytes": png(image), "path": "../../escaped.png"} for image in pixels]
    table = hub(pa.table({"image": images, "label": np.arange(20) % 3}), label=["cat", "dog", "eel"])
    write_parquet(root / "data" / "train-00000-of-00002.parquet", table.slice(0, 13), **options)
    write_parquet(root / "data" / "train-00001-of-00002.parquet", table.slice(13), **options)
    write_parquet(root / "data" / "test-00000-of-00001.parquet", table.slice(0, 6), **options)
    return pixels


def make_table(rows=30, seed=0):
    rng = np.random.default_rng(seed)
    return pa.table(
        {
            "age": rng.normal(40, 10, rows),
            "visits": rng.integers(0, 9, rows),
            "insured": np.arange(rows) % 2 == 0,
            "colour": [("red", "blue", "émeraude")[k % 3] for k in range(rows)],
            "embedding": [[float(k), 0.5] for k in range(rows)],
            "tokens": [[k % 5, 1, 2] for k in range(rows)],
            "price": rng.normal(size=rows),
            "label": [("yes", "no")[k % 2] for k in range(rows)],
        }
    )


def write_tables(root, train=None, test=None, **options):
    write_parquet(root / "train.parquet", make_table() if train is None else train, **options)
    write_parquet(root / "test.parquet", make_table(9, seed=1) if test is None else test, **options)
    return root


def write_csv(root, train, test):
    root.mkdir(parents=True, exist_ok=True)
    for name, content in (("train", train), ("test", test)):
        (root / f"{name}.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def csv_text(rows=12):
    return "a,b,kind,price\n" + "".join(f'{k / 3:.3f},{k},"k{k % 3}, x",{k * 1.5}\n' for k in range(rows))


def records(images, *labels):
    """CIFAR's records: labels, then the red, the green and the blue plane."""
    planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    return np.concatenate([np.stack(labels, 1).astype(np.uint8), planes], axis=1).tobytes()


def cifar10(per_batch=4):
    """Files of a small CIFAR-10 with all ten classes, its training images and their labels."""
    images, labels = random_images(5 * per_batch, 32, 32), np.arange(5 * per_batch) % 10
    rows = [slice(k * per_batch, (k + 1) * per_batch) for k in range(5)]
    files = {f"data_batch_{k + 1}.bin": records(images[row], labels[row]) for k, row in enumerate(rows)}
    files["test_batch.bin"] = records(images[:6], labels[:6])
    files["batches.meta.txt"] = "".join(f"class {k}\n" for k in range(10)).encode() + b"\n"
    return files, images, labels


def cifar100():
    images, fine, coarse = random_images(12, 32, 32), np.arange(12) % 4, np.arange(12) % 2
    files = {"train.bin": records(images, coarse, fine), "test.bin": records(images[:5], coarse[:5], fine[:5])}
    files["fine_label_names.txt"], files["coarse_label_names.txt"] = b"a\nb\nc\nd\n", b"early\nlate\n"
    return files, images, fine, coarse


def write_archive(path, files, folder="cifar-10-batches-bin"):
    """A .tar.gz archive, with the files in an order of its own, as in the real one."""
    with tarfile.open(path, "w:gz") as archive:
        for name in sorted(files, key=lambda name: name[::-1]):
            about = tarfile.TarInfo(f"{folder}/{name}")
            about.size = len(files[name])
            archive.addfile(about, io.BytesIO(files[name]))
    return path
