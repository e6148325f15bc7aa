"""`load_dataset` of Parquet folders: images, tables, tokens, which columns, and which files are which split."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pytest

import jaxinfl
from experiments.command_line import Mistake, Options, load
from jaxinfl import load_dataset, verify
from tests.example_images import png, random_images
from tests.example_tables import hub, make_table, write_images, write_parquet, write_tables
from tests.small_ensembles import keys_of

COLUMNS = r"The columns are age \(number\), visits \(integer\), insured \(bool\), colour \(text\), embedding \(list of numbers\)"


@pytest.mark.parametrize("options", [{}, {"row_group_size": 3, "data_page_version": "2.0", "compression": "zstd"}])
def test_images_as_the_hub_serves_them(tmp_path, options):
    pixels = write_images(tmp_path / "pets", **options)
    data = load_dataset(tmp_path / "pets")
    np.testing.assert_array_equal(data.train_inputs, pixels)
    np.testing.assert_array_equal(data.test_inputs, pixels[:6])
    np.testing.assert_array_equal(data.train_targets, np.arange(20) % 3)
    assert data.class_names == ("cat", "dog", "eel") and data.name == "pets" and data.are_images
    assert load_dataset(str(tmp_path / "pets"), image_size=4).image_shape == (4, 4, 3)
    assert load_dataset(tmp_path / "pets" / "data").fingerprint == data.fingerprint
    assert not (tmp_path / "escaped.png").exists() and len(list((tmp_path / "pets").rglob("*"))) == 4


def test_images_are_read_some_at_a_time(tmp_path, monkeypatch):
    """Images keep their order, whatever the sizes of batches and row groups."""
    pixels = write_images(tmp_path, row_group_size=5)
    monkeypatch.setattr("jaxinfl.datasets.parquet._IMAGES_AT_ONCE", 2)
    np.testing.assert_array_equal(load_dataset(tmp_path).train_inputs, pixels)


def test_images_with_numbers_as_targets_or_with_text(tmp_path):
    images = [png(image) for image in random_images(6, 4, 4, 1)]
    table = pa.table({"picture": images, "age": np.linspace(0, 1, 6), "kind": ["é", "b", "c"] * 2})
    write_tables(tmp_path, table, table.slice(2))
    ages = load_dataset(tmp_path, inputs="picture", targets="age")
    assert ages.are_images and ages.image_shape == (4, 4, 1) and ages.task.name == "regression"
    np.testing.assert_array_equal(ages.train_targets, np.linspace(0, 1, 6, dtype=np.float32))
    assert load_dataset(tmp_path, inputs="picture", targets="kind").class_names == ("b", "c", "é")
    with pytest.raises(ValueError, match=r"are the images 'picture' and 'age'; .*Give inputs='picture'"):
        load_dataset(tmp_path, targets="kind")
    with pytest.raises(ValueError, match=r"categories is .* but inputs of .* are images"):
        load_dataset(tmp_path, inputs="picture", targets="kind", categories=["picture"])


def test_transparent_images_take_a_background(tmp_path):
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[:2, :, 3] = 255
    table = pa.table({"image": [png(pixels, "RGBA")] * 2, "label": [0, 1]})
    write_tables(tmp_path, table, table)
    with pytest.warns(UserWarning, match="vary in transparency"):
        white = load_dataset(tmp_path)
    assert white.train_inputs[0, 3, 0, 0] == 255
    assert load_dataset(tmp_path, background="black").train_inputs.max() == 0


def test_a_table_of_numbers(tmp_path):
    table = make_table()
    write_tables(tmp_path)
    data = load_dataset(tmp_path, inputs=["visits", "age", "insured"])
    expected = np.stack([np.asarray(table[name], np.float32) for name in ("visits", "age", "insured")], axis=1)
    np.testing.assert_array_equal(data.train_inputs, expected)
    assert data.train_inputs.dtype == np.float32 and data.class_names == ("no", "yes") and not data.categories
    priced = load_dataset(tmp_path, inputs="age", targets="price")
    assert priced.task.name == "regression" and priced.train_inputs.shape == (30, 1)
    np.testing.assert_array_equal(priced.train_targets, np.asarray(table["price"], np.float32))
    several = load_dataset(tmp_path, inputs="age", targets=["price", "visits"])
    assert several.num_outputs == 2 and several.train_targets[7, 1] == table["visits"][7].as_py()


def test_categories_lists_and_numbers_side_by_side(tmp_path):
    write_tables(tmp_path)
    data = load_dataset(tmp_path, targets="price", categories=["colour", "label"])
    assert sorted(data.train_inputs) == ["colour", "embedding", "label", "numbers", "tokens"]
    assert data.categories == {"colour": 3, "label": 2, "tokens": 5}
    assert data.train_inputs["colour"][:3].tolist() == [1, 0, 2]  # blue, red, émeraude: sorted by code point
    assert data.train_inputs["numbers"].shape == (30, 3) and data.train_inputs["embedding"][4].tolist() == [4, 0.5]
    counted = load_dataset(
        tmp_path, targets="price", inputs=["visits", "colour"], categories={"visits": 20, "colour": None}
    )
    assert counted.categories == {"visits": 20, "colour": 3} and counted.train_inputs["visits"].ndim == 1
    declared = hub(make_table().select(["age", "visits", "price"]), visits=[f"v{k}" for k in range(11)])
    write_tables(tmp_path / "declared", declared, declared)
    assert load_dataset(tmp_path / "declared", targets="price").categories == {"visits": 11}


def test_lists_alone_are_one_array(tmp_path):
    write_tables(tmp_path)
    tokens = load_dataset(tmp_path, inputs="tokens", categories=7)
    assert tokens.train_inputs.shape == (30, 3) and tokens.categories == {"": 7}
    assert load_dataset(tmp_path, inputs="tokens").categories == {"": 5}
    floats = load_dataset(tmp_path, inputs="embedding", targets="insured", task="binary")
    assert floats.train_inputs.dtype == np.float32 and floats.task.name == "binary"
    following = pa.table({"tokens": [[1, 2, 3]] * 4, "next": [[2, 3, -1]] * 4})
    write_tables(tmp_path / "text", following, following)
    text = load_dataset(tmp_path / "text", targets="next", task="next_token")
    assert text.train_targets.tolist() == [[2, 3, -1]] * 4 and text.num_outputs == 4
    fixed = pa.table({"x": pa.array([[1.0, 2.0]] * 3, pa.list_(pa.float32(), 2)), "y": [0.5, 1.0, 2.0]})
    write_tables(tmp_path / "fixed", fixed, fixed)
    assert load_dataset(tmp_path / "fixed").train_inputs.tolist() == [[1, 2]] * 3
    matrices = pa.table({"x": [[[1.0, 2.0], [3.0, 4.0]]] * 3, "y": [0.5, 1.0, 2.0]})
    write_tables(tmp_path / "nested", matrices, matrices)
    assert load_dataset(tmp_path / "nested").train_inputs[2].tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())])
def test_text_in_any_of_arrows_forms(tmp_path, kind):
    table = make_table().select(["age", "label"])
    table = table.set_column(1, "label", table["label"].cast(kind))
    write_tables(tmp_path, table, table, row_group_size=7)
    assert load_dataset(tmp_path).train_targets.tolist() == [1, 0] * 15


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inputs": "agee"}, rf"inputs is 'agee'; .* has no column 'agee'\. {COLUMNS}"),
        ({"targets": ["label", "label"]}, "takes each column of targets once"),
        ({"inputs": []}, "takes each column of inputs once, and at least one"),
        ({"inputs": ["age", "label"]}, "inputs and targets of .* both have 'label'"),
        ({}, rf"inputs of .* hold text in 'colour'\. .*categories=\['colour'\].*tokens.*{COLUMNS}"),
        ({"inputs": "age", "categories": ["age"]}, "categories names 'age', which holds number"),
        ({"inputs": "age", "categories": ["colour"]}, "categories names 'colour', which is no column of the inputs"),
        ({"inputs": ["age", "embedding"], "categories": 3}, "categories is 3; a number is for one column of integers"),
        ({"inputs": "colour", "categories": {"colour": 2}}, "categories.* is 2, but train_inputs.* holds 2"),
        ({"inputs": "age", "targets": "price", "task": "classification"}, "column 'price' .*Pass task='regression'"),
        ({"inputs": "age", "targets": "colour", "task": "regression"}, "Here train_targets and test_targets are 'colour'"),
        ({"inputs": "age", "task": "regress"}, "task is 'regress'; it takes one of 'classification'"),
        ({"inputs": "age", "targets": ["label", "price"]}, "column 'label' .* holds text as targets"),
        ({"inputs": "age", "image_size": 8}, "image_size or background is given, but inputs of .* are no images"),
    ],
)  # fmt: skip
def test_refused_columns(tmp_path, options, message):
    write_tables(tmp_path)
    with pytest.raises(ValueError, match=message):
        load_dataset(tmp_path, **options)


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        ({"x": [1.0], "label": [0.5]}, "label"),
        ({"x": [1.0], "target": [0.5]}, "target"),
        ({"x": [1.0], "y": [0.5]}, "y"),
        ({"x": [1.0], "y": [0.5], "label": [0.5]}, r"not clear, 2 columns fit.*x \(number\), y \(number\), label"),
        ({"x": [1.0], "z": [0.5]}, r"not clear, no column fits\. Name it: targets='\.\.\.'"),
        ({"y": [1.0]}, "has no columns but the targets"),
        ({"__index_level_0__": [1], "a": [0.5], "y": [0.5]}, "pandas writes to number the rows.*inputs="),
    ],
)
def test_which_column_holds_the_targets(tmp_path, columns, found):
    write_tables(tmp_path, pa.table(columns), pa.table(columns))
    if found in columns:
        assert load_dataset(tmp_path).train_targets.tolist() == [0.5]
        return
    with pytest.raises(ValueError, match=found):
        load_dataset(tmp_path)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ([1.0, None, 2.0], r"column 'mine' of .*, train set, has no value at example 1 \(1 values are missing\)"),
        ([1.0, 2.0, float("nan")], "column 'mine' .*is nan as float64 at example 2;"),
        ([1.0, float("-inf"), 2.0], "column 'mine' .*is -inf as float64 at example 1;"),
        ([1.0, 1e300, 2.0], "column 'mine' .*is inf as float32 at example 1;"),
        ([[1.0, 2.0], [1.0], [2.0]], "column 'mine' .*lists of 1 to 2 values; it takes one length"),
        ([[1.0, 2.0], None, [2.0, 1.0]], "column 'mine' .*has no value at example 1"),
        ([[1.0, 2.0], [1.0, 1.0], [2.0, None]], "column 'mine' .*has no value at example 2"),
        ([[1.0, 2.0], [1.0, float("inf")], [2.0, 1.0]], "column 'mine' .*is inf .*at example 1, place 1 of its list"),
        (pa.array([[]] * 3, pa.list_(pa.float32())), "lists of 0 to 0 values"),
        ([{"a": 1}, {"a": 2}, {"a": 3}], r"column 'mine' .*holds struct<a: int64>; it takes numbers"),
        ([[{"a": 1}], [{"a": 2}], [{"a": 3}]], r"column 'mine' .*holds list<element: struct"),
        ([None, None, None], "column 'mine' .*holds null; it takes numbers"),
        (np.array(["2020-01-01"] * 3, "datetime64[s]"), r"column 'mine' .*holds timestamp\[ms\]"),
    ],
)
def test_values_that_are_not_taken_name_their_column(tmp_path, column, message):
    table = pa.table({"fine": [1.0, 2.0, 3.0], "mine": column, "label": [0, 1, 0]})
    write_tables(tmp_path, table, table)
    with pytest.raises(ValueError, match=message):
        load_dataset(tmp_path)


def test_images_without_bytes(tmp_path):
    images = [{"bytes": png(random_images(1)[0]), "path": "a"}, {"bytes": None, "path": "/etc/passwd"}]
    table = pa.table({"image": images, "label": [0, 1]})
    write_tables(tmp_path, table, table)
    with pytest.raises(ValueError, match=r"image 1 of .*, train set has no bytes in the column 'image'"):
        load_dataset(tmp_path)


# --- files and splits ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names",
    [
        ("train.parquet", "test.parquet"),
        ("data/train-00000-of-00001.parquet", "data/test-00000-of-00001-0123456789abcdef.parquet"),
        ("plain_text/train-0.parquet", "plain_text/test-0.parquet"),
        ("train/0000.parquet", "test/0000.parquet"),
        ("default/train/0000.parquet", "default/valid/0000.parquet"),
        ("pets-train.parquet", "pets-validation.parquet"),
    ],
)
def test_names_say_the_split(tmp_path, names, caplog):
    for name, rows in zip(names, (30, 9), strict=True):
        write_parquet(tmp_path / "pets" / name, make_table(rows))
    data = load_dataset(tmp_path / "pets", inputs="age")
    assert (data.num_train, data.num_test, data.name) == (30, 9, "pets")
    assert ("has no test set: models are tested on" in caplog.text) == ("val" in names[1])
    pair = [tmp_path / "pets" / name for name in names]
    assert load_dataset(tuple(pair), inputs="age").fingerprint == data.fingerprint
    assert load_dataset([str(path) for path in pair], inputs="age").fingerprint == data.fingerprint


def test_what_is_left_out_is_said(tmp_path, caplog):
    for name in ("train", "test", "validation", "unsupervised", "train_clean"):
        write_parquet(tmp_path / f"{name}.parquet", make_table(9))
    assert load_dataset(tmp_path, inputs="age").num_train == 9
    assert "train_clean.parquet, unsupervised.parquet, validation.parquet are left out." in caplog.text


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train.parquet"], r"has no files of the split test \(or one of val, valid, validation.*but train\.parquet"),
        (["test.parquet"], "has no files of the split train, but test"),
        (["a.parquet"], r"has no files of the split train, but a\.parquet.*Rename"),
        (["train.parquet", "val.parquet", "valid.parquet"], "has no files of the split test"),
        (["a/train.parquet", "b/train.parquet"], "has several folders of .parquet files: a, b. Give the path of one"),
        (["train-00000-of-00002.parquet", "test.parquet"], "do not number all files of one split"),
        (["train-00000-of-00001.parquet", "train-00000-of-00002.parquet", "train-00001-of-00002.parquet", "test.parquet"],
         "do not number all files of one split"),
        (["train.parquet", "test.parquet", "train.csv"], "holds both Parquet and CSV files"),
    ],
)  # fmt: skip
def test_files_that_are_missing_or_too_many(tmp_path, names, message):
    for name in names:
        write_parquet(tmp_path / name, make_table(9))
    with pytest.raises(ValueError, match=message):
        load_dataset(tmp_path, inputs="age")


def test_refused_pairs_and_files(tmp_path):
    write_tables(tmp_path)
    train, test = tmp_path / "train.parquet", tmp_path / "test.parquet"
    with pytest.raises(FileNotFoundError, match=r"nowhere\.parquet does not exist"):
        load_dataset((train, tmp_path / "nowhere.parquet"))
    with pytest.raises(ValueError, match=r"is the file .* twice"):
        load_dataset((train, train))
    with pytest.raises(ValueError, match="as a pair it takes"):
        load_dataset([train, test, test])
    with pytest.raises(ValueError, match=r"it takes two \.csv files or two \.parquet files"):
        load_dataset((train, tmp_path / "test.csv"))
    with pytest.raises(ValueError, match=r"one file; it takes a pair"):
        load_dataset(train)
    test.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(ValueError, match=r"test\.parquet is a pointer of Git LFS"):
        load_dataset(tmp_path)
    test.unlink()
    test.symlink_to(tmp_path / "gone")
    with pytest.raises(ValueError, match="is a broken link"):
        load_dataset(tmp_path)


def test_files_that_disagree(tmp_path):
    names = ["a", "b"]
    table = pa.table({"x": [1.0, 2.0], "label": [0, 1]})
    write_tables(tmp_path, hub(table, label=names), hub(table, label=names[::-1]))
    with pytest.raises(ValueError, match="declares other classes than"):
        load_dataset(tmp_path)
    write_tables(tmp_path, table, table.rename_columns(["z", "label"]))
    with pytest.raises(ValueError, match="has the column 'x' in some of its files only"):
        load_dataset(tmp_path)
    write_tables(tmp_path, table, pa.table({"x": ["a", "b"], "label": [0, 1]}))
    with pytest.raises(
        ValueError, match=r"column 'x' of .* holds number in one file and text in another; it takes one kind"
    ):
        load_dataset(tmp_path)
    more = [each.append_column("notes", pa.array(notes)) for each, notes in ((table, ["a", "b"]), (table, [1, 2]))]
    write_tables(tmp_path, *more)
    assert load_dataset(tmp_path, inputs="x").num_train == 2  # what is not asked for may differ
    doubled = pa.Table.from_arrays([pa.array([1.0])] * 2 + [pa.array([0])], ["x", "x", "label"])
    write_tables(tmp_path, doubled, doubled)
    with pytest.raises(ValueError, match="has two columns of the name 'x'"):
        load_dataset(tmp_path)
    write_tables(tmp_path, table, table.slice(0, 0))
    with pytest.raises(ValueError, match="test set holds no examples"):
        load_dataset(tmp_path)


@pytest.mark.parametrize(
    "metadata",
    ["{", "[1]", '"x"', json.dumps({"info": {"features": [1]}}), "[" * 10**5,
     json.dumps({"info": {"features": {"label": {"_type": "ClassLabel", "names": "ab"}}}})],
)  # fmt: skip
def test_damaged_metadata_of_the_hub(tmp_path, metadata):
    table = pa.table({"x": [1.0, 2.0], "label": [0, 1]}).replace_schema_metadata({"huggingface": metadata})
    write_tables(tmp_path, table, table)
    with pytest.raises(ValueError, match=r"train\.parquet is not a readable Parquet file"):
        load_dataset(tmp_path)


# --- what a run records ----------------------------------------------------------------------------------------------


def test_a_run_finds_its_columns_again(tmp_path, capsys):
    """`predict` by the run's own record, and the repair where the folder has moved, which --data names."""
    write_tables(tmp_path / "visits")
    options = {"inputs": ["age", "colour"], "targets": "price", "categories": ["colour"]}
    data = load_dataset(tmp_path / "visits", **options)
    source = json.loads(json.dumps(data.source))
    assert load_dataset(**source).fingerprint == data.fingerprint and source["inputs"] == ["age", "colour"]
    masks = np.random.default_rng(0).random((3, 30)) < 0.7
    run, recipe = tmp_path / "run", jaxinfl.Recipe(epochs=1, batch_size=16, standardize=True)
    jaxinfl.train_ensemble(
        masks, keys_of(3), data=data, model="small_mlp", recipe=recipe, run_dir=run, keep_weights=True, progress=False
    )
    runs = jaxinfl.Ensemble.open(run)
    predictions = runs.test_score("prediction")
    np.testing.assert_array_equal(runs.predict().test_score("prediction"), predictions)
    shutil.move(tmp_path / "visits", tmp_path / "moved")
    with pytest.raises(jaxinfl.RunDirectoryError, match="cannot be loaded again"):
        runs.predict()
    (chunk,) = [path for path in (run / "test_prediction" / "c").rglob("*") if path.is_file()]
    chunk.write_bytes(chunk.read_bytes()[:-1])
    assert verify.main([str(run), "--repair", "--data", str(tmp_path / "moved")]) == 0, capsys.readouterr()
    np.testing.assert_array_equal(jaxinfl.Ensemble.open(run).test_score("prediction"), predictions)


@pytest.mark.parametrize("task", ["regression", jaxinfl.tasks.huber(0.5)])
def test_a_task_is_recorded_by_its_name(tmp_path, task):
    write_tables(tmp_path)
    data = load_dataset(tmp_path, inputs="age", targets="visits", task=task)
    assert data.task.name == getattr(task, "name", task) and data.train_targets.dtype == np.float32
    assert data.source["task"] == "regression" if isinstance(task, str) else data.source is None


def test_the_command_line_takes_a_folder(tmp_path):
    write_images(tmp_path / "pets")
    data, out = load(Options(data=str(tmp_path / "pets")), "x", "digits")
    assert data.num_classes == 3 and out.name == "digits-pets"
    write_tables(tmp_path / "table")
    with pytest.raises(Mistake, match="hold text in 'colour'"):
        load(Options(data=str(tmp_path / "table")), "x", "digits")
