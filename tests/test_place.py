"""Influence is computed on the processor, whatever device trains; JAX's default backend is made to say that it is a card."""

import jax
import numpy as np
import pytest

import jaxinfl
from jaxinfl.influence import counts, joint_counts, place
from tests import reference


@pytest.fixture(params=["cpu", "card beside a processor", "card alone"])
def where(request, monkeypatch):
    """The platforms that JAX was started with."""
    if request.param == "cpu":
        yield request.param
        return
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    if request.param == "card alone":

        def missing(backend=None):
            raise RuntimeError(f"Unknown backend {backend}")

        monkeypatch.setattr(jax, "local_devices", missing)
    # The second CPU device takes the part of the card.
    with jax.default_device(jax.devices()[1]):
        yield request.param


def test_the_same_counts_and_curves_everywhere(where):
    assert place.platform() == ("gpu" if where == "card alone" else "cpu")
    rng = np.random.default_rng(0)
    masks, correct = rng.random((40, 30)) < 0.7, rng.random((40, 20)) < 0.5
    np.testing.assert_array_equal(joint_counts(masks, correct), reference.joint_counts(masks, correct))
    margin = rng.normal(size=(40, 20)).astype(np.float32)
    expected = np.stack(
        [
            margin[seen].astype(np.float64).mean(axis=0) - margin[~seen].astype(np.float64).mean(axis=0)
            for seen in masks.T
        ]
    )
    np.testing.assert_allclose(jaxinfl.influence(masks, margin), expected, rtol=1e-5, atol=1e-6)
    values = jaxinfl.iou_of_models(masks[:20], correct[:20], masks[20:], correct[20:], thresholds=[0.0, 0.1, 0.2])
    halves = [jaxinfl.influence(masks[part], correct[part]) for part in (slice(20), slice(20, 40))]
    np.testing.assert_array_equal(values, jaxinfl.iou(*halves, [0.0, 0.1, 0.2]))


def test_what_is_computed_lies_on_the_processor(where):
    if where == "cpu":
        pytest.skip("there is one place only")
    alone = where == "card alone"
    assert place.put(np.ones(3)).devices() == {jax.devices()[1 if alone else 0]}
    with place.in_place():
        assert jax.jit(lambda x: x + 1)(np.ones(3)).devices() == {jax.devices()[1 if alone else 0]}


def test_native_kernels_need_a_processor(monkeypatch):
    monkeypatch.setattr(counts, "platform", lambda: "gpu")
    with pytest.raises(ValueError, match="method is 'native', which runs on CPUs; JAX has gpu alone: take 'auto'"):
        joint_counts(np.ones((2, 2), bool), np.ones((2, 2), bool), method="native")
