"""Amounts and times as people read them."""

import pytest

from jaxinfl.units import format_amount, format_bytes, format_seconds


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1 kB"),
        (1_234_567, "1.23 MB"),
        (10**9, "1 GB"),
        (5 * 10**15, "5e+03 TB"),
    ],
)
def test_bytes(size, text):
    assert format_bytes(size) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.5, "0.5"), (20, "20"), (1e9, "1 G"), (3.04e13, "30.4 T"), (2e21, "2e+03 E")]
)
def test_amounts(value, text):
    assert format_amount(value) == text
    assert format_amount(1500, ("us", "ms", "s")) == "1.5 ms"


def test_seconds():
    assert [format_seconds(each) for each in (59.4, 200, 18_720)] == ["59 s", "3 min 20 s", "5 h 12 min"]
