"""`Dataset` made from arrays, the digits, and the arguments of `load_dataset`: what they take and what they refuse."""

import dataclasses

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from jaxinfl.datasets import Dataset, load_dataset, stratified_mask
from tests.example_images import CHECKED_BEFORE, arrays, random_images
from tests.example_tables import TABLE, table_arrays

# Dataset


def test_dataset_keeps_order_values_and_names():
    given = arrays()
    dataset = Dataset(**given, class_names=["cat", "dog", "eel"], name="pets")
    np.testing.assert_array_equal(dataset.train_inputs, given["train_inputs"])
    np.testing.assert_array_equal(dataset.train_targets, given["train_targets"])
    np.testing.assert_array_equal(dataset.test_inputs, given["test_inputs"])
    np.testing.assert_array_equal(dataset.test_targets, given["test_targets"])
    assert dataset.class_names == ("cat", "dog", "eel")
    assert (dataset.num_train, dataset.num_test, dataset.num_classes) == (6, 4, 3)
    assert dataset.image_shape == (4, 5, 3)
    assert dataset.train_targets.dtype == dataset.test_targets.dtype == np.int32
    assert repr(dataset) == "Dataset(name='pets', num_train=6, num_test=4, num_classes=3, image_shape=(4, 5, 3))"


def test_class_names_and_name_have_defaults():
    dataset = Dataset(**arrays())
    assert (dataset.class_names, dataset.name) == (("0", "1", "2"), "arrays")


def test_arrays_are_read_only_views_and_the_callers_stay_writable():
    given = arrays(train_targets=np.array([0, 1, 2, 2, 1, 0], np.int32))
    dataset = Dataset(**given)
    for field, array in given.items():
        assert array.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            getattr(dataset, field)[0] = 1
    assert np.shares_memory(dataset.train_inputs, given["train_inputs"])
    assert np.shares_memory(dataset.train_targets, given["train_targets"])
    with pytest.raises(dataclasses.FrozenInstanceError):
        dataset.name = "other"


def test_images_without_channels_and_labels_in_columns_are_taken():
    given = arrays()
    gray = {field: given[field][..., 0] for field in ("train_inputs", "test_inputs")}
    columns = {field: given[field][:, None].astype(np.uint8) for field in ("train_targets", "test_targets")}
    dataset = Dataset(**gray, **columns)
    assert dataset.train_inputs.shape == (6, 4, 5, 1)
    np.testing.assert_array_equal(dataset.train_inputs[..., 0], gray["train_inputs"])
    np.testing.assert_array_equal(dataset.train_targets, given["train_targets"])


def test_a_class_may_be_missing_in_the_test_set():
    assert Dataset(**arrays(test_targets=np.zeros(4, int))).num_classes == 3


REFUSED = {
    "images have 2 dimensions": ({"train_inputs": np.zeros((6, 4), np.uint8)}, ValueError, "train_inputs has 2 dim"),
    "images have 5 dimensions": ({"test_inputs": np.zeros((4, 1, 1, 1, 1), np.uint8)}, ValueError, "test_inputs has 5"),
    "float images": (
        {"train_inputs": np.zeros((6, 4, 5, 3))},
        TypeError,
        r"train_inputs has dtype float64.*np\.rint",
    ),
    "int images": ({"test_inputs": np.zeros((4, 4, 5, 3), int)}, TypeError, "test_inputs has dtype int64.*uint8"),
    "NaN images": ({"train_inputs": np.full((6, 4, 5, 3), np.nan)}, ValueError, "train_inputs contains NaN"),
    "ragged images": ({"train_inputs": [[[0]], [[0, 1]]]}, ValueError, "train_inputs is not one rectangular array"),
    "float labels": ({"train_targets": np.zeros(6)}, TypeError, "train_targets has dtype float64.*integer"),
    "bool labels": ({"train_targets": np.zeros(6, bool)}, TypeError, "train_targets has dtype bool"),
    "NaN labels": ({"test_targets": np.full(4, np.nan)}, ValueError, "test_targets contains NaN"),
    "one-hot labels": (
        {"train_targets": np.eye(6, dtype=int)},
        ValueError,
        r"train_targets has shape \(6, 6\).*argmax",
    ),
    "shapes differ": ({"test_inputs": random_images(4, 4, 4)}, ValueError, r"\(4, 5, 3\).*test_inputs \(4, 4, 3\)"),
    "lengths differ": ({"train_targets": np.array([0, 1, 2])}, ValueError, "train_inputs holds 6 .*train_targets 3"),
    "test lengths differ": ({"test_targets": np.array([0, 1, 2])}, ValueError, "test_inputs holds 4 .*test_targets 3"),
    "no images": ({"train_inputs": random_images(0)}, ValueError, "train_inputs is empty"),
    "no pixels": ({"train_inputs": random_images(6, 0)}, ValueError, "train_inputs is empty"),
    "no labels": ({"test_targets": np.array([], int)}, ValueError, "test_targets is empty"),
    "negative label": (
        {"test_targets": np.array([0, 1, -1, 2])},
        ValueError,
        "test_targets contains .* -1 at example 2",
    ),
    "label beyond names": ({"class_names": ("a", "b")}, ValueError, r"train_targets contains 2.*2 class_names.*0\.\.1"),
    "test label beyond names": (
        {"class_names": ("a", "b", "c"), "test_targets": np.array([0, 1, 2, 9])},
        ValueError,
        "test_targets contains 9",
    ),
    "labels with gaps": ({"train_targets": np.array([0, 5, 5, 2, 1, 0])}, ValueError, r"not contiguous.*\[3, 4\]"),
    "a huge label": ({"train_targets": np.array([0, 2**40, 1, 2, 1, 0])}, ValueError, "not contiguous.*109951162777"),
    "labels from 1": (
        {"train_targets": np.array([1, 2, 3, 3, 2, 1]), "test_targets": np.array([1, 2, 3, 1])},
        ValueError,
        r"not contiguous.*\[0\]",
    ),
    "untrained class": ({"test_targets": np.array([0, 1, 2, 3])}, ValueError, r"no training example: 3 \('3'\)"),
    "untrained named class": ({"class_names": tuple("abcd")}, ValueError, r"no training example: 3 \('d'\)"),
    "one class": ({"train_targets": np.zeros(6, int), "test_targets": np.zeros(4, int)}, ValueError, "hold 1 class"),
    "one class name": ({"class_names": ("a",)}, ValueError, "class_names holds 1 class"),
    "repeated names": ({"class_names": ("a", "b", "a")}, ValueError, r"class_names repeats \['a'\]"),
    "names are a string": ({"class_names": "abc"}, TypeError, "class_names is 'abc'"),
    "names are numbers": ({"class_names": (0, 1, 2)}, TypeError, rf"class_names is \(0, 1, 2\)|{CHECKED_BEFORE}"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_dataset_refuses(case):
    changes, error, message = REFUSED[case]
    with pytest.raises(error, match=message):
        Dataset(**arrays(**changes))


def test_fingerprint_depends_on_content_only():
    given = arrays()
    fingerprint = Dataset(**given).fingerprint
    assert len(fingerprint) == 64
    assert int(fingerprint, 16) >= 0
    same = {field: np.asfortranarray(array) for field, array in given.items()}
    same["train_targets"] = given["train_targets"].astype(">i2")
    assert Dataset(**same, class_names=("a", "b", "c"), name="other").fingerprint == fingerprint


@pytest.mark.parametrize("field", ["train_inputs", "train_targets", "test_inputs", "test_targets"])
def test_fingerprint_sees_one_value(field):
    changed = arrays()
    fingerprint = Dataset(**changed).fingerprint
    flat = changed[field].copy().reshape(-1)
    flat[-1] = (flat[-1] + 1) % 3
    changed[field] = flat.reshape(changed[field].shape)
    assert Dataset(**changed, class_names=tuple("abc")).fingerprint != fingerprint


def test_fingerprint_sees_shapes_and_the_split():
    given = arrays()
    others = [
        arrays(
            train_inputs=given["train_inputs"].reshape(6, 5, 4, 3), test_inputs=given["test_inputs"].reshape(4, 5, 4, 3)
        ),
        arrays(train_inputs=given["train_inputs"][::-1]),
        {  # the last training example becomes the first test example
            "train_inputs": given["train_inputs"][:5],
            "train_targets": given["train_targets"][:5],
            "test_inputs": np.concatenate([given["train_inputs"][5:], given["test_inputs"]]),
            "test_targets": np.concatenate([given["train_targets"][5:], given["test_targets"]]),
        },
    ]
    fingerprints = {Dataset(**arguments).fingerprint for arguments in [given, *others]}
    assert len(fingerprints) == 4


def test_fingerprint_is_the_same_in_pieces(monkeypatch):
    fingerprint = Dataset(**arrays()).fingerprint
    monkeypatch.setattr("jaxinfl.datasets.dataset._HASHED_AT_ONCE", 130)  # 2 images
    assert Dataset(**arrays()).fingerprint == fingerprint


@hypothesis.settings(max_examples=30, deadline=None)
@hypothesis.given(st.data())
def test_any_valid_arrays_come_back(data):
    num_classes, num_test = data.draw(st.integers(2, 5)), data.draw(st.integers(1, 4))
    shape = data.draw(st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4)))
    extra = data.draw(st.lists(st.integers(0, num_classes - 1), max_size=4))
    train_targets = np.array(data.draw(st.permutations([*range(num_classes), *extra])))
    dtype = data.draw(hnp.integer_dtypes() | hnp.unsigned_integer_dtypes())
    test_targets = data.draw(hnp.arrays(dtype, num_test, elements=st.integers(0, num_classes - 1)))
    train_inputs = data.draw(hnp.arrays(np.uint8, (len(train_targets), *shape)))
    test_inputs = data.draw(hnp.arrays(np.uint8, (num_test, *shape)))
    dataset = Dataset(
        train_inputs=train_inputs, train_targets=train_targets, test_inputs=test_inputs, test_targets=test_targets
    )
    np.testing.assert_array_equal(dataset.train_inputs, train_inputs)
    np.testing.assert_array_equal(dataset.train_targets, train_targets)
    np.testing.assert_array_equal(dataset.test_inputs, test_inputs)
    np.testing.assert_array_equal(dataset.test_targets, test_targets)
    assert dataset.num_classes == num_classes
    again = dataclasses.replace(dataset, name="again")
    assert again.fingerprint == dataset.fingerprint


def test_channels_first_is_refused_with_the_remedy():
    images, labels = np.zeros((4, 3, 12, 12), np.uint8), np.array([0, 1, 0, 1])
    with pytest.raises(ValueError, match=r"looks like channels first.*transpose\(0, 2, 3, 1\)"):
        Dataset(train_inputs=images, train_targets=labels, test_inputs=images, test_targets=labels)


# load_dataset: digits


def test_digits_are_split_in_a_stratified_and_fixed_way():
    digits = load_dataset("digits")
    assert (digits.num_train, digits.num_test, digits.num_classes) == (1437, 360, 10)
    assert digits.image_shape == (8, 8, 1)
    assert digits.class_names == tuple("0123456789")
    assert digits.name == "digits"
    assert (digits.train_inputs.min(), digits.train_inputs.max()) == (0, 255)
    test_counts = np.bincount(digits.test_targets)
    counts = np.bincount(digits.train_targets) + test_counts
    assert np.all(np.abs(test_counts - counts * 360 / 1797) < 1)
    # Stored runs name this fingerprint: it must never change.
    assert digits.fingerprint == "6a612f3dca0e7fc56b66fa125779ca2405f7276c73a511701cf270ed82dcb122"


def test_digits_are_scikit_learns():
    from sklearn.datasets import load_digits

    digits, raw = load_dataset("digits"), load_digits()
    in_test = stratified_mask(raw.target, 360)
    expected = np.array([[round(value * 255 / 16) for value in image.reshape(-1)] for image in raw.images])
    np.testing.assert_array_equal(digits.test_inputs.reshape(360, 64), expected[in_test])
    np.testing.assert_array_equal(digits.train_inputs.reshape(1437, 64), expected[~in_test])
    np.testing.assert_array_equal(digits.train_targets, raw.target[~in_test])


def test_arrays_are_resized_on_request():
    small = load_dataset("digits", image_size=4)
    assert small.image_shape == (4, 4, 1)
    first = Image.fromarray(load_dataset("digits").train_inputs[0, ..., 0])
    np.testing.assert_array_equal(small.train_inputs[0, ..., 0], first.resize((4, 4), Image.Resampling.BILINEAR))
    assert load_dataset("digits", image_size=8).fingerprint == load_dataset("digits").fingerprint


# load_dataset: arguments


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"name": 3}, TypeError, f"name is 3|{CHECKED_BEFORE}"),
        ({"name": "digits", "image_size": 0}, ValueError, "image_size is 0"),
        ({"name": "digits", "image_size": 8.0}, TypeError, rf"image_size is 8\.0|{CHECKED_BEFORE}"),
        ({"name": "digits", "splits": ("train", "test")}, ValueError, "only TensorFlow Datasets have named splits"),
        ({"name": "cifar10", "splits": "train"}, ValueError, "splits is 'train'; it takes two splits"),
        ({"name": "cifar10", "splits": "a:b:c"}, ValueError, "splits is 'a:b:c'"),
        ({"name": "cifar10", "splits": "train[:50%]"}, ValueError, r"splits is 'train\[:50%\]'"),
        ({"name": "cifar10", "splits": "train:"}, ValueError, "splits is 'train:'"),
        ({"name": "digits", "splits": "train:test"}, ValueError, "only TensorFlow Datasets have named splits"),
        ({"name": "cifar10", "splits": ("train",)}, (TypeError, ValueError), f"two splits|{CHECKED_BEFORE}"),
        ({"name": "cifar10", "splits": (1, 2)}, TypeError, f"two strings|{CHECKED_BEFORE}"),
        ({"name": "cifar10", "splits": 3}, TypeError, f"two strings|{CHECKED_BEFORE}"),
    ],
)
def test_load_dataset_refuses(arguments, error, message):
    with pytest.raises(error, match=message):
        load_dataset(**arguments)


def test_categories_with_names():
    words, tokens = ["the", "cat", "sat"], np.array([[0, 1], [1, 2], [0, 2], [2, 2], [1, 1], [0, 0]])
    data = Dataset(**table_arrays(train_inputs=tokens, test_inputs=tokens), category_names=words)
    assert data.categories == {"": 3} and data.spell("", data.train_inputs[1]) == "cat sat"
    assert data.select(np.arange(6), np.arange(3)).category_names == data.category_names
    assert (
        data.fingerprint == Dataset(**table_arrays(train_inputs=tokens, test_inputs=tokens), categories=3).fingerprint
    )
    for names, error, message in (
        (["a", "b"], ValueError, "categories is 2, but train_inputs holds 2"),
        ({"x": words}, ValueError, "names 'x', which is no array of integers"),
        ("abc", TypeError, "category_names is 'abc'; it takes a sequence of strings"),
        ([1, 2, 3], TypeError, "category_names holds 1"),
    ):
        with pytest.raises(error, match=message):
            Dataset(**table_arrays(train_inputs=tokens, test_inputs=tokens), category_names=names)
    with pytest.raises(ValueError, match="category_names has 3 names, and there are 4 categories"):
        Dataset(**table_arrays(train_inputs=tokens, test_inputs=tokens), category_names=words, categories=4)


def test_features_with_names():
    data = Dataset(**table_arrays(), feature_names=["width", "height"])
    assert data.feature_names == {"": ("width", "height")} and data.fingerprint == Dataset(**table_arrays()).fingerprint
    assert data.select(np.arange(6), np.arange(3)).feature_names == data.feature_names
    assert data.with_test(TABLE[:2], [0, 1]).feature_names == data.feature_names
    assert Dataset(**table_arrays()).feature_names == {}
    parts = {"size": TABLE, "age": TABLE[:, 0]}
    for inputs, names, message in (
        (TABLE, ["width"], "feature_names has 1 names, and an example has 2 numbers"),
        (parts, {"age": ["a", "b"]}, "feature_names has 2 names for 'age', and an example has 1 numbers"),
        (TABLE.astype(int), ["a", "b"], r"feature_names names '', which is no array of floats; these are \[\]"),
        (TABLE, ["a\n", "b"], "feature_names holds 'a\\\\n', which has control characters"),
    ):
        with pytest.raises(ValueError, match=message):
            Dataset(**table_arrays(train_inputs=inputs, test_inputs=inputs), feature_names=names)
