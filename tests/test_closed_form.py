"""Influence of leaving one example out, against closed forms and another library's refits."""

import numpy as np
import pytest

from benchmarks.closed_form import closed_form_figure, linear_regression, logistic_regression
from jaxinfl.report.results import save_figure


@pytest.fixture(scope="module")
def linear():
    return linear_regression()


@pytest.fixture(scope="module")
def logistic():
    return logistic_regression()


def test_linear_regression_left_out_equals_the_hat_matrix(linear):
    np.testing.assert_allclose(linear.measured, linear.exact, atol=1e-4 * np.abs(linear.exact).max())
    assert linear.deviation < 1e-4


def test_logistic_regression_left_out_equals_refits_of_scikit_learn(logistic):
    np.testing.assert_allclose(logistic.measured, logistic.exact, atol=1e-3 * np.abs(logistic.exact).max())
    assert logistic.deviation < 1e-3


def test_the_figure_says_the_largest_deviations(linear, logistic, tmp_path):
    figure = closed_form_figure(linear, logistic)
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert len(texts) == 2 and all("168 pairs; largest deviation" in text for text in texts)
    save_figure(figure, tmp_path, "closed_form")
    assert (tmp_path / "closed_form.png").read_bytes().startswith(b"\x89PNG")
