import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxinfl import Recipe
from jaxinfl.training.optimizer import learning_rate, make_optimizer


def rate(recipe, epoch):
    return float(learning_rate(recipe, jnp.float32(epoch)))


@pytest.mark.parametrize(
    ("epoch", "expected"),
    [(0, 0.1), (59.99, 0.1), (60, 0.01), (119.9, 0.01), (120, 1e-3), (160, 1e-4), (199.9, 1e-4)],
)
def test_step_schedule_of_the_paper(epoch, expected):
    """Appendix A.3: 0.1, times 0.1 at epochs 60, 120 and 160."""
    recipe = Recipe(epochs=200, schedule="step", milestones=(60, 120, 160))
    assert rate(recipe, epoch) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("recipe", "epoch", "expected"),
    [
        (Recipe(epochs=10, schedule="cosine", learning_rate=0.2), 0, 0.2),
        (Recipe(epochs=10, schedule="cosine", learning_rate=0.2), 2.5, 0.1 * (1 + np.cos(np.pi / 4))),
        (Recipe(epochs=10, schedule="cosine", learning_rate=0.2), 5, 0.1),
        (Recipe(epochs=10, schedule="linear", learning_rate=0.2), 7.5, 0.05),
        (Recipe(epochs=10, schedule="constant", learning_rate=0.2), 9.9, 0.2),
        (Recipe(epochs=10, schedule="cosine", learning_rate=0.2, warmup_epochs=2), 1, 0.1),
        (Recipe(epochs=10, schedule="cosine", learning_rate=0.2, warmup_epochs=2), 6, 0.1),
        (Recipe(epochs=10, schedule="linear", learning_rate=0.2, warmup_epochs=10), 5, 0.1),
        (Recipe(epochs=10, schedule="step", milestones=(4,), learning_rate=0.2, warmup_epochs=2), 3.9, 0.2),
        (Recipe(epochs=10, schedule="step", milestones=(4,), learning_rate=0.2, warmup_epochs=2), 4.1, 0.02),
    ],
)
def test_schedules(recipe, epoch, expected):
    assert rate(recipe, epoch) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_is_pytorchs(nesterov):
    """Two steps by hand: g + wd p; v = m v + g; step by v, or by g + m v (Nesterov)."""
    recipe = Recipe(momentum=0.9, weight_decay=0.01, nesterov=nesterov)
    optimizer = make_optimizer(recipe)
    p, v = 2.0, 0.0
    params, state = jnp.float32(p), optimizer.init(jnp.float32(p))
    for gradient, lr in ((0.5, 0.1), (-0.3, 0.01)):
        direction, state = optimizer.update(jnp.float32(gradient), state, params)
        params = params - lr * direction
        g = gradient + 0.01 * p
        v = 0.9 * v + g
        p -= lr * (g + 0.9 * v if nesterov else v)
        assert float(params) == pytest.approx(p, rel=1e-6)


@jax.numpy_dtype_promotion("standard")  # optax's bias correction mixes an integer count with floats
def test_adamw_is_optax():
    ours, theirs = make_optimizer(Recipe(optimizer="adamw", weight_decay=0.1)), optax.adamw(0.01, weight_decay=0.1)
    params = {"w": jnp.array([1.0, -2.0])}
    state, their_state, their_params = ours.init(params), theirs.init(params), params
    for gradient in ([0.3, 0.1], [-0.2, 0.4]):
        direction, state = ours.update({"w": jnp.array(gradient)}, state, params)
        params = {"w": params["w"] - 0.01 * direction["w"]}
        update, their_state = theirs.update({"w": jnp.array(gradient)}, their_state, their_params)
        their_params = optax.apply_updates(their_params, update)
        np.testing.assert_allclose(params["w"], their_params["w"], rtol=1e-6)


def test_other_number_types_become_plain_ones():
    """Equal recipes share compiled programs, so they must be the same to the last type."""
    recipe = Recipe(epochs=np.int64(2), batch_size=16.0, learning_rate=np.float32(0.5), warmup_epochs=1, flip=np.True_)
    assert recipe == Recipe(epochs=2, batch_size=16, learning_rate=0.5, warmup_epochs=1.0, flip=True)
    kinds = [type(getattr(recipe, name)) for name in ("epochs", "batch_size", "learning_rate", "warmup_epochs", "flip")]
    assert kinds == [int, int, float, float, bool]


def test_way_through_json():
    recipe = Recipe(schedule="step", milestones=(3, 5), normalization=((0.5, 0.2), (0.4, 0.3)))
    again = Recipe.from_dict(json.loads(json.dumps(recipe.to_dict())))
    assert again == recipe and hash(again) == hash(recipe)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": -1}, "epochs is -1; it takes a whole number from 0"),
        ({"epochs": 1.5}, "epochs is 1.5"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"momentum": 1.1}, "momentum is 1.1"),
        ({"weight_decay": "high"}, "weight_decay is 'high'"),
        ({"optimizer": "lion"}, "optimizer is 'lion'; it takes one of 'sgd', 'adamw'"),
        ({"schedule": "step"}, "needs at least one"),
        ({"milestones": (3,)}, "milestones go with"),
        ({"schedule": "step", "milestones": (5, 3)}, "rising epochs"),
        ({"milestones": 5}, "milestones is 5"),
        ({"nesterov": True, "momentum": 0.0}, "nesterov is a form of"),
        ({"warmup_epochs": 30.0}, "more than the 20 epochs"),
        ({"compute_dtype": "float16"}, "compute_dtype is 'float16'"),
        ({"normalization": "dataset"}, "normalization is 'dataset'"),
        ({"normalization": ((0.5, 0.0),)}, "deviation above 0"),
        ({"normalization": (0.5, 0.2)}, "for each channel"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(ValueError, match=message):
        Recipe(**options)


def test_flip_takes_a_truth_value():
    with pytest.raises(TypeError, match="flip is 'no'; it takes True or False"):
        Recipe(flip="no")
