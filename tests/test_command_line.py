"""What the experiments' command lines share."""

import dataclasses
import json

import numpy as np
import pytest

from experiments.command_line import Mistake, Options, load
from jaxinfl.datasets.load import load_again
from jaxinfl.datasets.options import ReloadOptions


def test_a_part_of_the_data_has_every_class_in_its_share(digits):
    part, _ = load(Options(train_examples=100, test_examples=30), "x", "digits")
    assert (part.num_train, part.num_test, part.num_classes) == (100, 30, 10)
    shares = np.bincount(digits.train_targets) * 100 / digits.num_train
    assert (np.abs(np.bincount(part.train_targets) - shares) < 1).all()
    again, _ = load(Options(train_examples=100, test_examples=30), "x", "digits")
    assert again.fingerprint == part.fingerprint != digits.fingerprint
    # Runs find them again.
    for source in (part.source, json.loads(json.dumps(dict(part.source)))):
        assert load_again(source).fingerprint == part.fingerprint
    assert ReloadOptions(data="digits").load(part.source).fingerprint == part.fingerprint
    with pytest.raises(ValueError, match="1438 train examples were taken of the data set, and digits has 1437"):
        load_again(dict(part.source) | {"train_examples": 1438})
    # Real images with their own labels.
    first = int(np.flatnonzero((digits.train_inputs == part.train_inputs[0]).all((1, 2, 3)))[0])
    assert digits.train_targets[first] == part.train_targets[0]


def test_all_of_the_data_is_the_data(digits):
    whole, out = load(Options(), "x", "digits")
    assert whole.fingerprint == digits.fingerprint and str(out) == "results/x/digits"
    whole, _ = load(Options(train_examples=digits.num_train), "x", "digits")
    assert whole.fingerprint == digits.fingerprint


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_examples": 0}, "--train-examples is 0; digits has 1437"),
        ({"test_examples": 361}, "--test-examples is 361; digits has 360"),
        ({"data": ""}, "--data is missing"),
        ({"seed": -1}, "--seed is -1"),
    ],
)
def test_mistakes(change, message):
    with pytest.raises(Mistake, match=message):
        load(dataclasses.replace(Options(), **change), "x", "digits")
