"""Text that comes with Python itself: the topics of its own help, as sequences of words."""

import re
from collections import Counter

import numpy as np

from jaxinfl.datasets.dataset import Dataset
from jaxinfl.datasets.stratified import stratified_mask

NAME = "python_topics"
LENGTH = 32
"""Words of an example."""
VOCABULARY = 500
"""Number of tokens: the most frequent words, and one token for all others."""
OTHER = "..."
"""Name of the token that stands for every word outside of the vocabulary."""
_TOPICS = 12
_TEST_SHARE = 5
"""One of so many examples is a test example."""
_WORD = re.compile(r"[a-z_]+")


def load_topics() -> Dataset:
    """Pieces of the longest texts of `pydoc_data.topics`, int32 [n, 32], with the name of their topic as the class.

    A piece is 32 words in a row, lower case and without punctuation, and pieces do not overlap. Many topics repeat what others say,
    so the examples have near-duplicates. A fifth of each topic is for testing, always the same pieces. The texts are those of
    the Python that runs, and differ a little from one version to the next.
    """
    from pydoc_data.topics import topics  # 0.7 MB, for which nothing else waits

    words = {name: _WORD.findall(text.lower()) for name, text in topics.items()}
    # Equal lengths and counts are ordered by name, so that the order of the topics' own dictionary does not matter.
    longest = sorted(sorted(words, key=lambda name: (-len(words[name]), name))[:_TOPICS])
    counts = Counter(word for name in longest for word in words[name])
    frequent = sorted(counts, key=lambda word: (-counts[word], word))[: VOCABULARY - 1]
    names = [OTHER, *sorted(frequent)]
    number = {word: token for token, word in enumerate(names)}
    pieces, labels = [], []
    for name in longest:
        tokens = [number.get(word, 0) for word in words[name]]
        for first in range(0, len(tokens) - LENGTH + 1, LENGTH):
            pieces.append(tokens[first : first + LENGTH])
            labels.append(name)
    inputs, classes = np.array(pieces, np.int32), np.array(labels)
    in_test = stratified_mask(np.searchsorted(longest, classes), len(classes) // _TEST_SHARE)
    return Dataset(
        train_inputs=inputs[~in_test],
        train_targets=classes[~in_test],
        test_inputs=inputs[in_test],
        test_targets=classes[in_test],
        class_names=longest,
        category_names=names,
        name=NAME,
    )


__all__ = ["LENGTH", "NAME", "OTHER", "VOCABULARY", "load_topics"]
