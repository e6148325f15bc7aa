"""The chaos program in short; `python -m tests.chaos --kills 30` is the long form."""

import pytest

from tests.chaos import Options, main


@pytest.mark.slow
def test_killed_processes_are_followed_by_others_that_come_to_the_same_bits():
    report = main(Options(kills=2, models=9))
    assert report.total == 2 and report.runs >= 1
