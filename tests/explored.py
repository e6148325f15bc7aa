"""Runs whose memorization and influences are known, for the tests of the page that explores them."""

import re

import numpy as np

from jaxinfl import Dataset, Ensemble

MODELS, TRAIN, TEST = 400, 90, 40
MEMORIZED, WRONG_LABEL = 7, 11
"""A training example that only models that were trained on it are right on, and one on which no other model ever is."""
HELPER, HELPED = 3, 5
"""A training example without which models are mostly wrong on a test example."""
HURTER, HURT = 4, 6
HOSTILE = "</script><script>document.title='pwned'</script><img src=x onerror=\"document.title='pwned'\">&amp;{{7*7}}"


def make_images(seed=0, channels=3):
    """Noise in which each image has a colour of its own."""
    rng = np.random.default_rng(seed)
    numbers = TRAIN + TEST
    images = rng.integers(0, 40, (numbers, 8, 8, channels)) + rng.integers(0, 200, (numbers, 1, 1, channels))
    labels = np.arange(numbers) % 3
    return Dataset(
        train_inputs=images[:TRAIN].astype(np.uint8),
        train_targets=labels[:TRAIN],
        test_inputs=images[TRAIN:].astype(np.uint8),
        test_targets=labels[TRAIN:],
        class_names=("ant", "bee", HOSTILE),
        name=HOSTILE,
    )


def make_scores(seed=0):
    """Masks, train and test scores of models that are right by chance but for what the names above say."""
    rng = np.random.default_rng(seed)
    masks = rng.random((MODELS, TRAIN)) < 0.5
    train, test = rng.random((MODELS, TRAIN)) < 0.8, rng.random((MODELS, TEST)) < 0.7
    train[:, MEMORIZED] = np.where(masks[:, MEMORIZED], True, rng.random(MODELS) < 0.6)
    train[:, WRONG_LABEL] = masks[:, WRONG_LABEL]
    test[:, HELPED] = rng.random(MODELS) < np.where(masks[:, HELPER], 0.9, 0.3)
    test[:, HURT] = rng.random(MODELS) < np.where(masks[:, HURTER], 0.3, 0.9)
    return masks, train, test


def make_runs(data=None, **more):
    masks, train, test = make_scores()
    return Ensemble.from_scores(masks, {"correct": train}, {"correct": test}, data=data, **more)


def script_json(page):
    """The text of the page's content, between the tags of its script."""
    (found,) = re.findall(r'<script type="application/json" id="content">(.*?)</script>', page, re.DOTALL)
    return found
