import numpy as np
import pytest

from jaxinfl import agreement


def test_agreement_by_hand():
    predictions = np.array([[0, 1, 2, 2], [0, 1, 1, 2], [1, 0, 0, 0]])
    np.testing.assert_allclose(agreement(predictions), [[1, 0.75, 0], [0.75, 1, 0], [0, 0, 1]])


@pytest.mark.parametrize(
    ("predictions", "error", "message"),
    [
        (np.zeros((2, 3)), TypeError, "dtype float64"),
        (np.zeros(3, int), ValueError, r"shape \(3,\)"),
        (np.zeros((2, 0), int), ValueError, r"shape \(2, 0\)"),
    ],
)
def test_refusals(predictions, error, message):
    with pytest.raises(error, match=message):
        agreement(predictions)
