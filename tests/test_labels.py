"""Labels as text: one coding for both sets. And the advice of every error about labels and images, followed once."""

import re

import numpy as np
import pytest

from jaxinfl.datasets import Dataset
from tests.example_images import arrays, random_images

TRAIN, TEST = ["cat", "eel", "dog", "eel", "cat", "dog"], ["eel", "cat", "eel", "cat"]


def with_labels(train, test, **more):
    return arrays(train_targets=train, test_targets=test, **more)


def names_of(data):
    """The class name of every training and test example."""
    names = np.array(data.class_names)
    return names[data.train_targets].tolist(), names[data.test_targets].tolist()


# --- text ------------------------------------------------------------------------------------------------------------

FORMS = {
    "list": list,
    "array": np.array,
    "bytes": lambda labels: np.array(labels).astype(bytes),
    "objects": lambda labels: np.array(labels, object),
    "strings of varying length": lambda labels: np.array(labels, np.dtypes.StringDType()),
    "column": lambda labels: np.array(labels)[:, None],
    "list of bytes": lambda labels: [label.encode() for label in labels],
}


@pytest.mark.parametrize("form", FORMS)
def test_text_has_one_coding_in_both_sets(form):
    """dog is in no test example: numbered by itself, the test set would call eel 1."""
    data = Dataset(**with_labels(FORMS[form](TRAIN), FORMS[form](TEST)))
    assert data.class_names == ("cat", "dog", "eel")
    np.testing.assert_array_equal(data.train_targets, [0, 2, 1, 2, 0, 1])
    np.testing.assert_array_equal(data.test_targets, [2, 0, 2, 0])
    assert data.train_targets.dtype == np.int32
    numbers = Dataset(**with_labels([0, 2, 1, 2, 0, 1], [2, 0, 2, 0]))
    assert data.fingerprint == numbers.fingerprint


def test_class_names_decide_the_order():
    data = Dataset(**with_labels(TRAIN, np.array(TEST, bytes), class_names=["eel", "cat", "dog"]))
    assert data.class_names == ("eel", "cat", "dog") and names_of(data) == (TRAIN, TEST)
    np.testing.assert_array_equal(data.test_targets, [0, 1, 0, 1])


def test_two_forms_of_one_name_are_one_class():
    """é as one character, and as two as macOS writes it."""
    train, test = ["caf\u00e9", "bar"] * 3, ["cafe\u0301", "bar"] * 2
    for names in (None, ["cafe\u0301", "bar"]):
        data = Dataset(**with_labels(train, test, class_names=names))
        np.testing.assert_array_equal(data.train_targets[:2], data.test_targets[:2])
    with pytest.raises(ValueError, match="class_names repeats"):
        Dataset(**with_labels(train, test, class_names=["caf\u00e9", "cafe\u0301", "bar"]))


def test_the_names_are_in_utf_8():
    data = Dataset(**with_labels(["é".encode(), b"x"] * 3, ["é", "x"] * 2))
    assert data.class_names == ("x", "é")
    with pytest.raises(ValueError, match=r"train_targets holds bytes that are no UTF-8 .*np\.char\.decode") as refused:
        Dataset(**with_labels(np.array(["é".encode("latin-1"), b"x"] * 3), ["é", "x"] * 2))
    train_targets = np.array(["é".encode("latin-1"), b"x"] * 3)
    (advice,) = re.findall(r"np\.char\.decode\(.*\)", str(refused.value))
    assert Dataset(**with_labels(eval(advice), ["é", "x"] * 2)).class_names == ("x", "é"), train_targets


TEXT_REFUSED = {
    "unknown name": (
        TRAIN,
        TEST,
        ("cat", "dog"),
        ValueError,
        r"train_targets contains 'eel' at example 1.*'cat', 'dog'",
    ),
    "unknown in test": (
        TRAIN,
        ["cow", *TEST[1:]],
        ("cat", "dog", "eel"),
        ValueError,
        "test_targets contains 'cow' at ex",
    ),
    "in test only": (TRAIN, ["cow", *TEST[1:]], None, ValueError, r"no training example: 1 \('cow'\)"),
    "one class": (["a"] * 6, ["a"] * 4, None, ValueError, "hold 1 class, 'a'"),
    "empty": (["a", "b", ""] * 2, ["a"] * 4, None, ValueError, r"train_targets holds an empty text at example 2"),
    "escape": (["a", "b\x1b[31m"] * 3, ["a"] * 4, None, ValueError, "control characters"),
    "a number in it": (
        TRAIN,
        ["cat", 1, "eel", "cat"],
        None,
        TypeError,
        r"test_targets holds 1 \(int\) at example 1 besi",
    ),
    "NaN in it": (
        ["a", "b", np.nan] * 2,
        ["a"] * 4,
        None,
        TypeError,
        r"train_targets holds nan \(float\) at example 2",
    ),
    "None in it": (
        TRAIN,
        np.array(["cat", None] * 2),
        None,
        TypeError,
        r"test_targets holds None .* at example 1 beside",
    ),
    "numbers beside": (
        TRAIN,
        [0, 1, 2, 0],
        None,
        TypeError,
        r"train_targets holds text \('cat' first\) and test_targets h",
    ),
    "numbers before": (
        [0, 1, 2, 0, 1, 2],
        TEST,
        None,
        TypeError,
        r"test_targets holds text .* and train_targets holds int",
    ),
    "floats beside": (TRAIN, [0.0, 1, 2, 0], None, TypeError, r"test_targets holds float64 \(0\.0 first\)"),
    "two columns": (np.array([TRAIN, TRAIN]).T, TEST, None, ValueError, r"shape \(6, 2\).*choose one column in both"),
}


@pytest.mark.parametrize("case", TEXT_REFUSED)
def test_text_is_refused(case):
    train, test, names, error, message = TEXT_REFUSED[case]
    with pytest.raises(error, match=message):
        Dataset(**with_labels(train, test, class_names=names))


# --- advice, followed ------------------------------------------------------------------------------------------------

NUMBERED = r"names, both = .*?\[len\(train_targets\)\]\)"


def refusal(given, error=(TypeError, ValueError)):
    with pytest.raises(error) as raised:
        Dataset(**given)
    return str(raised.value)


def follow(given, code):
    """The arguments after the statements that an error advises."""
    scope = {name: np.asarray(value) if name != "class_names" else value for name, value in given.items()}
    exec(code, {"np": np}, scope)  # noqa: S102 - the package's own words
    if "names" in scope:
        scope["class_names"] = eval("[str(name) for name in names]", {}, {"names": scope["names"]})
    return {name: scope[name] for name in (*given, *(["class_names"] if "names" in scope else []))}


@pytest.mark.parametrize(
    ("train", "test", "cause"),
    [
        ([-1, 1, 1, -1, 1, -1], [1, 1, 1, 1], "Where -1 and 1 are two classes"),
        ([-1, 0, 1, -1, 0, 1], [1, 1, 0, 0], "Where negative labels are classes"),
        ([3, 5, 9, 3, 5, 9], [9, 3, 3, 9], "not contiguous"),
        ([1, 2, 3, 1, 2, 3], [3, 3, 1, 1], "not contiguous"),
        ([0.5, 1.0, 2.5, 0.5, 1.0, 2.5], [2.5, 2.5, 0.5, 0.5], "fractions are the targets of a regression"),
    ],
)
def test_numbers_that_are_classes_are_numbered_together(train, test, cause):
    """No class of the test set changes its name, although classes are missing there."""
    given = with_labels(np.array(train), np.array(test))
    message = refusal(given)
    assert cause in message
    (code,) = re.findall(NUMBERED, message)
    data = Dataset(**follow(given, code))
    assert names_of(data) == ([str(label) for label in train], [str(label) for label in test])


@pytest.mark.parametrize("column", [False, True])
def test_examples_without_a_label_are_removed_with_their_images(column):
    given = with_labels(np.array([0, 1, 2, 0, 1, 2]), np.array([2, -1, 0, -1]))
    if column:
        given["test_targets"] = given["test_targets"][:, None]
    message = refusal(given)
    assert "contains the negative label -1 at example 1" in message
    (code,) = re.findall(r"keep = .*?\[keep\], test_targets\[keep\]", message)
    data = Dataset(**follow(given, code))
    np.testing.assert_array_equal(data.test_targets, [2, 0])
    np.testing.assert_array_equal(data.test_inputs, given["test_inputs"][[0, 2]])


def test_a_set_without_any_label_is_told_so():
    message = refusal(with_labels(np.array([0, 1, 2, 0, 1, 2]), np.full(4, -1)))
    assert "this set has none, and another one is needed" in message


def test_targets_of_a_regression_are_never_rounded():
    """Fractions are refused where one set alone has them: the whole numbers of the other would be taken for classes."""
    for train, test in ((np.linspace(0, 3, 6), np.arange(4.0)), (np.arange(6.0), np.linspace(0, 3, 7)[:4])):
        message = refusal(with_labels(train, test), TypeError)
        assert "targets of a regression: pass task='regression'" in message and "astype(np.int" not in message


@pytest.mark.parametrize("dtype", [float, bool, object, np.float16])
def test_whole_numbers_of_another_dtype_are_cast(dtype):
    given = with_labels(np.array([0, 1, 1, 0, 1, 0], dtype), np.array([1, 0, 0, 1], dtype))
    for field in ("train_targets", "test_targets"):
        (code,) = re.findall(r"np\.asarray\(\w+\)\.astype\(np\.int64\)", refusal(given, TypeError))
        given = follow(given, f"{field} = {code}")
    np.testing.assert_array_equal(Dataset(**given).train_targets, [0, 1, 1, 0, 1, 0])


@pytest.mark.parametrize("dtype", [int, float, bool])
def test_one_hot_rows_and_others(dtype):
    labels = np.array([0, 1, 2, 2, 1, 0])
    given = with_labels(np.eye(3, dtype=dtype)[labels], np.eye(3, dtype=dtype)[[2, 1, 0, 1]])
    for field in ("train_targets", "test_targets"):
        (code,) = re.findall(r"np\.argmax\(\w+, axis=1\)", refusal(given))
        given = follow(given, f"{field} = {code}")
    np.testing.assert_array_equal(Dataset(**given).train_targets, labels)

    several = np.eye(3, dtype=dtype)[labels]
    several[0] = 1
    none = np.eye(3, dtype=dtype)[labels]
    none[0] = 0
    for rows in (several, none):
        message = refusal(with_labels(rows, [0, 1, 0, 1]))
        assert "multi-label" in message and "argmax" not in message


def test_rows_that_are_no_marks_of_classes():
    soft = np.full((6, 3), 1 / 3)
    assert "probabilities of the classes, which are not taken" in refusal(with_labels(soft, [0, 1, 0, 1]))
    coarse_and_fine = np.array([[0, 7], [1, 8], [1, 9]] * 2)
    message = refusal(with_labels(coarse_and_fine, [0, 1, 0, 1]))
    assert "choose one column" in message and "argmax" not in message
    assert "np.reshape(train_targets, -1)" in refusal(with_labels(np.array([[0, 1, 2, 0, 1, 2]]), [0, 1, 2, 1]))


def test_numbers_written_as_text_beside_numbers():
    given = with_labels(np.array(list("012012")), np.array([2, 1, 0, 1]))
    (code,) = re.findall(r"np\.asarray\(train_targets\)\.astype\(np\.int64\)", refusal(given, TypeError))
    np.testing.assert_array_equal(Dataset(**follow(given, f"train_targets = {code}")).train_targets, [0, 1, 2] * 2)


def test_positions_beside_text():
    class_names = ["dog", "eel", "cat"]
    given = with_labels(np.array(TRAIN), np.array([1, 2, 1, 2]), class_names=class_names)
    (code,) = re.findall(r"np\.array\(class_names\)\[test_targets\]", refusal(given, TypeError))
    assert names_of(Dataset(**follow(given, f"test_targets = {code}"))) == (TRAIN, ["eel", "cat", "eel", "cat"])


@pytest.mark.parametrize("kind", ["numbers", "names", "text", "text and names"])
def test_a_class_without_training_examples_is_taken_out(kind):
    names = ["ant", "bee", "cat", "dog"]
    train, test = np.array([0, 1, 3, 3, 1, 0]), np.array([2, 1, 3, 0])
    if "text" in kind:
        given = with_labels(np.array(names)[train], np.array(names)[test])
    else:
        given = with_labels(train, test)
    if "names" in kind:
        given["class_names"] = names
    message = refusal(given, ValueError)
    assert "train_targets lacks 1 of the 4 classes" in message
    (code,) = re.findall(r"keep = .*?test_targets\[keep\]", message)
    given = follow(given, code)
    if kind == "numbers":
        (code,) = re.findall(NUMBERED, refusal(given, ValueError))
        given = follow(given, code)
    elif kind == "names":
        for field in ("train_targets", "test_targets"):
            (code,) = re.findall(rf"{field}=(np\.array\(class_names\)\[{field}\])", message)
            given = follow(given, f"{field} = {code}")
        del given["class_names"]
    elif kind == "text and names":
        given["class_names"] = ["ant", "bee", "dog"]
    data = Dataset(**given)
    kept = [str(k) for k in range(4)] if kind == "numbers" else names
    assert names_of(data) == ([kept[k] for k in train], [kept[k] for k in test if k != 2])
    np.testing.assert_array_equal(data.test_inputs, arrays()["test_inputs"][1:])


def test_labels_from_one_with_names():
    given = with_labels(np.array([1, 2, 3, 3, 2, 1]), np.array([3, 2, 1, 1]), class_names=["a", "b", "c"])
    assert "begin at 1: subtract 1 from both" in refusal(given)
    given["test_targets"] = np.array([0, 2, 1, 1])
    assert "subtract" not in refusal(given)


def test_masked_values_are_not_taken_for_real_ones():
    masked = np.ma.array([0, 1, 2, 2, 1, 0], mask=[0, 0, 0, 0, 0, 1])
    assert "whose 1 masked values" in refusal(with_labels(masked, [2, 1, 0, 1]))
    images = np.ma.array(random_images(6), mask=False)
    assert Dataset(**arrays(train_inputs=images)).num_train == 6
    images[0, 0, 0, 0] = np.ma.masked
    assert "train_inputs is a masked array" in refusal(arrays(train_inputs=images))


# --- images ----------------------------------------------------------------------------------------------------------

SCALED = {
    "0 to 1": (lambda images: images / 255, "in 0..1"),
    "0 to 1 in 32 bits": (lambda images: (images / 255).astype(np.float32), "in 0..1"),
    "floats": (lambda images: images.astype(np.float64), "in 0..255. Round"),
    "integers": (lambda images: images.astype(np.int64), "in 0..255. Convert"),
    "16 bits": (lambda images: images.astype(np.uint16) * 257, "one formula"),
    "12 bits": (lambda images: images.astype(np.int16) * 16, "one formula"),
    "-1 to 1": (lambda images: images / 127.5 - 1, "one formula"),
    "signed bytes": (lambda images: (images.astype(np.int16) - 128).astype(np.int8), "one formula"),
    "standardized": (lambda images: (images - 120.7) / 63.1, "one formula"),
    "overshoot": (lambda images: images / 250 - 0.01, "one formula"),
}


@pytest.mark.parametrize("field", ["train_inputs", "test_inputs"])
@pytest.mark.parametrize("case", SCALED)
def test_images_beside_bytes_are_brought_to_bytes(case, field):
    """The advice gives the very images, or says that only the formula of the other set can."""
    change, cause = SCALED[case]
    images = arrays()
    images[field][0, 0, 0] = 255
    expected = {name: images[name].copy() for name in ("train_inputs", "test_inputs")}
    given = arrays(**expected | {field: change(expected[field])})
    message = refusal(given, TypeError)
    assert message.startswith(f"{field} has dtype")
    if cause == "one formula":
        assert "the formula by which the other set was made" in message and "astype(np.uint8)" not in message
        return
    assert cause in message
    (code,) = re.findall(r"(np\.rint\(.*\.astype\(np\.uint8\)|\w+_inputs\.astype\(np\.uint8\))\.$", message)
    data = Dataset(**follow(given, f"{field} = {code}"))
    np.testing.assert_array_equal(data.train_inputs, expected["train_inputs"])
    np.testing.assert_array_equal(data.test_inputs, expected["test_inputs"])


@pytest.mark.parametrize("white", [1, 255])
def test_images_of_true_and_false(white):
    train, test = random_images(6) > 99, random_images(4, seed=1) > 99
    given = arrays(train_inputs=train, test_inputs=test * np.uint8(white))
    ((code, field),) = re.findall(r"Convert with (.*?(\w+_inputs)\.astype.*)\.$", refusal(given, TypeError))
    data = Dataset(**follow(given, f"{field} = {code}"))
    np.testing.assert_array_equal(data.train_inputs, train * np.uint8(white))
    np.testing.assert_array_equal(data.test_inputs, test * np.uint8(white))


def test_images_of_16_bits_beside_bytes():
    message = refusal(arrays(train_inputs=random_images(6).astype(np.uint16) * 257), TypeError)
    assert "the formula by which the other set was made" in message and "astype(np.uint8)" not in message


def test_images_without_a_scale():
    assert "infinite values" in refusal(arrays(train_inputs=np.full((6, 4, 5, 3), np.inf)))
    for value in (300, -7):
        message = refusal(arrays(train_inputs=np.full((6, 4, 5, 3), value)), TypeError)
        assert "inf" not in message and "nan" not in message
    assert "as files, in one folder for each class" in refusal(arrays(train_inputs=np.array([None] * 6)))


def test_layouts_of_images():
    pixels, labels = random_images(4, 32, 32), np.array([0, 1, 0, 1])
    given = {"train_targets": labels, "test_inputs": pixels, "test_targets": labels}
    first = pixels.transpose(0, 3, 1, 2)
    (code,) = re.findall(r"images(\.transpose\(.*?\))", refusal(given | {"train_inputs": first}))
    np.testing.assert_array_equal(eval(f"first{code}", {"first": first}), pixels)
    rows = np.ascontiguousarray(first).reshape(4, -1)
    (code,) = re.findall(r"rows of CIFAR's files, for instance, are (.*)\.$", refusal(given | {"train_inputs": rows}))
    np.testing.assert_array_equal(eval(f"rows{code}", {"rows": rows}), pixels)
