"""`load_dataset` of CSV files: a folder or a pair, kinds of columns, and lines that do not fit."""

import numpy as np
import pandas
import pytest

from jaxinfl import load_dataset
from tests.example_tables import csv_text, write_csv


def test_a_folder_and_a_pair(tmp_path, caplog):
    write_csv(tmp_path / "houses", csv_text(), csv_text(5))
    data = load_dataset(str(tmp_path / "houses"), targets="price", inputs=["b", "a"])
    assert (data.num_train, data.num_test, data.name, data.task.name) == (12, 5, "houses", "regression")
    expected = np.stack([np.arange(12), np.round(np.arange(12) / 3, 3)], axis=1).astype(np.float32)
    np.testing.assert_array_equal(data.train_inputs, expected)
    assert data.feature_names == {"": ("b", "a")} and data.category_names == {}
    np.testing.assert_array_equal(data.train_targets, np.arange(12, dtype=np.float32) * 1.5)
    files = (tmp_path / "houses" / "train.csv", tmp_path / "houses" / "test.csv")
    pair = load_dataset(files, targets="price", inputs=["b", "a"])
    assert pair.fingerprint == data.fingerprint and load_dataset(**pair.source).fingerprint == data.fingerprint
    assert pair.source["name"] == [str(file) for file in files]
    files[1].rename(tmp_path / "houses" / "valid.csv")
    assert load_dataset(tmp_path / "houses", targets="price", inputs=["b", "a"]).fingerprint == data.fingerprint
    assert "has no test set: models are tested on valid.csv" in caplog.text


def test_what_pandas_writes(tmp_path):
    rng = np.random.default_rng(0)
    frame = pandas.DataFrame(
        {
            "x": rng.normal(size=20),
            "name, with comma": ['a "quoted" one', "two\nlines"] * 10,
            "ok": rng.random(20) < 0.5,
            "y": ["é", "b"] * 10,
        }
    )
    root = write_csv(tmp_path, frame.to_csv(index=False), frame[:7].to_csv(index=False, lineterminator="\r\n"))
    data = load_dataset(root, categories=["name, with comma"])
    np.testing.assert_array_equal(data.train_inputs["numbers"][:, 0], frame["x"].to_numpy(np.float32))
    np.testing.assert_array_equal(data.train_inputs["numbers"][:, 1], frame["ok"].to_numpy(np.float32))
    assert data.train_inputs["name, with comma"][:3].tolist() == [0, 1, 0]
    assert data.feature_names == {"numbers": ("x", "ok")}
    assert data.category_names == {"name, with comma": ('a "quoted" one', "two\\nlines")}
    assert data.class_names == ("b", "é") and data.train_targets[:2].tolist() == [1, 0]
    write_csv(tmp_path, frame.to_csv(), frame.to_csv())
    with pytest.raises(ValueError, match=r"has the column '', which pandas writes to number the rows.*index=False"):
        load_dataset(root)
    assert load_dataset(root, inputs="x").fingerprint == load_dataset(root, inputs=["x"]).fingerprint


def test_labels_of_text_stay_as_they_are(tmp_path):
    """What pandas would take for missing values is text in a column of text."""
    rows = "x,label\n1,NA\n2,None\n3,1e5\n"
    assert load_dataset(write_csv(tmp_path, rows, rows)).class_names == ("1e5", "NA", "None")


@pytest.mark.parametrize(
    ("train", "test", "task", "targets"),
    [
        ("x,y\n1,0\n2,1\n", "x,y\n1,1\n", "classification", [0, 1]),
        ("x,y\n1,0\n2,1\n", "x,y\n1,0.5\n", "regression", [0, 1]),
        ("x,y\n1,true\n2,false\n", "x,y\n1,true\n", "classification", [1, 0]),
        ("x,y\n1,7\n2,9\n", "x,y\n1,8\n", None, [7, 9]),
    ],
)
def test_the_task_is_that_of_the_values(tmp_path, train, test, task, targets):
    root = write_csv(tmp_path, train, test)
    if task is None:
        with pytest.raises(
            ValueError, match=r"test_targets are 'y'\. The task is 'classification', as task=\.\.\. says"
        ):
            load_dataset(root)
        task = "regression"
        assert load_dataset(root, task=task).task.name == task
    data = load_dataset(root, task="regression" if targets[0] > 1 else None)
    assert data.task.name == task and data.train_targets.tolist() == targets


def test_whole_numbers_with_points_are_classes_on_request(tmp_path):
    root = write_csv(tmp_path, "x,y\n1,0.0\n2,1.0\n", "x,y\n1,1.0\n")
    assert load_dataset(root, task="classification").train_targets.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ("", r"train\.csv is empty, with 0 bytes"),
        ("x,y\n", "train set, holds no examples"),
        ("x,y\n1,0\n2\n", r"train\.csv is not a readable CSV file .*Expected 2 columns, got 1"),
        ("x,y\n1,0\n2,3,4\n", r"train\.csv is not a readable CSV file .*Expected 2 columns, got 3"),
        ('x,y\n1,0\n2,"1\n', r"train\.csv has a quote that is not closed"),
        ("x,y\n1,0\n,1\n", "column 'x' of .* train set, has no value at example 1"),
        ("x,y\n1,0\nnan,1\n", "column 'x' of .* train set, has no value at example 1"),
        ("x,y\n1.5,0\ninf,1\n", "column 'x' of .* train set, is inf as float64 at example 1"),
        ("x,y\n1,a\n2,\n", "column 'y' of .* has no value at example 1"),
        ("x,x,y\n1,1,0\n", "has two columns of the name 'x'"),
        ("x;y\n1;0\n", "has the column 'x' in some of its files only"),
        (b"x,y\n1,\xe9\n2,b\n", "column 'y' of .* holds binary"),
        (b"x,\xff\n1,2\n", r"train\.csv is not a readable CSV file"),
        (b"\xff\xfex\x00,\x00y\x00\n\x00", r"train\.csv is not a readable CSV file|some of its files only"),
        ("x,y\n2020-01-01,0\n2020-01-02,1\n", r"column 'x' of .* holds date32\[day\]"),
    ],
)
def test_refused(tmp_path, train, message):
    root = write_csv(
        tmp_path,
        train,
        train if b"x," in (train if isinstance(train, bytes) else train.encode()) else "x,y\n1,0\n2,1\n",
    )
    with pytest.raises(ValueError, match=message):
        load_dataset(root, targets="y")


def test_files_of_one_split_are_read_in_the_order_of_their_names(tmp_path):
    write_csv(tmp_path, "x,y\n1,0.5\n", "x,y\n3,1\n")
    (tmp_path / "train.csv").rename(tmp_path / "train-1.csv")
    (tmp_path / "train-0.csv").write_text("y,x\n2,7.5\n")
    assert load_dataset(tmp_path).train_inputs[:, 0].tolist() == [7.5, 1]
    (tmp_path / "train-0.csv").write_text("y,x\n2,red\n")
    with pytest.raises(ValueError, match=r"column 'x' of .* holds integer in one file and text in another"):
        load_dataset(tmp_path, inputs="x")


def test_options_that_are_for_other_sources(tmp_path):
    root = write_csv(tmp_path, "x,y\n1,0\n2,1\n", "x,y\n1,0\n")
    for option, value, message in (
        ("image_size", 8, "holds no images"),
        ("background", "black", "only images of folders, Parquet files"),
        ("splits", "train:test", "only TensorFlow Datasets have named splits"),
    ):
        with pytest.raises(ValueError, match=f"{option} is .*{message}.* Leave it out"):
            load_dataset(root, **{option: value})
    for option, value in (("inputs", "x"), ("targets", "y"), ("task", "regression"), ("categories", 3)):
        with pytest.raises(ValueError, match=rf"{option} is .*, but only .*\. Leave it out"):
            load_dataset("digits", **{option: value})
