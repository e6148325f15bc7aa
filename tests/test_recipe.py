import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxinfl import Recipe, recipes
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


@pytest.mark.parametrize(
    ("step", "expected"),
    # 35,000 examples (70% of CIFAR's) make 274 steps an epoch.
    [(0, 0.1), (16_439, 0.1), (16_440, 0.01), (32_879, 0.01), (32_880, 1e-3), (43_840, 1e-4), (54_799, 1e-4)],
)
def test_cifars_learning_rate_by_hand(step, expected):
    """A.3: 0.1, divided by 10 at epochs 60, 120 and 160 of 200: steps 16,440, 32,880 and 43,840 of 54,800."""
    assert rate(recipes.CIFAR, step / 274) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("recipe", [recipes.FINE_GRAINED_224, recipes.FINE_GRAINED_299])
@pytest.mark.parametrize(
    ("step", "expected"),
    # Flowers' 2,040 training images make 8 steps of 256 an epoch, 3,200 in all; (1 + cos(pi step / 3200)) / 20.
    [(0, 0.1), (800, 0.0853553), (1600, 0.05), (2400, 0.0146447), (3199, 2.4096e-8)],
)
def test_the_fine_grained_learning_rate_by_hand(recipe, step, expected):
    assert rate(recipe, step / 8) == pytest.approx(expected, rel=1e-4, abs=2e-9)


def test_the_papers_recipes_to_the_last_number():
    """Appendix A.3, all that it says; and the rest is what a recipe without it would be."""
    cifar = {"epochs": 200, "batch_size": 128, "learning_rate": 0.1, "weight_decay": 5e-4, "momentum": 0.9}
    cifar |= {"schedule": "step", "milestones": (60, 120, 160), "decay_factor": 0.1, "crop_padding": 4, "flip": True}
    assert recipes.CIFAR == Recipe(**cifar)
    fine = {"epochs": 400, "batch_size": 256, "microbatch": 64, "learning_rate": 0.1, "weight_decay": 1e-4}
    fine |= {"momentum": 0.9, "schedule": "cosine", "flip": True}
    for side, recipe in ((224, recipes.FINE_GRAINED_224), (299, recipes.FINE_GRAINED_299)):
        assert recipe == Recipe(**fine, resized_crop=side)
        assert recipe.input_shape((400, 300, 3)) == (side, side, 3)
    chosen = recipes.fine_grained(224, learning_rate=0.3, weight_decay=0.0, microbatch=32)
    assert chosen == Recipe(**fine | {"learning_rate": 0.3, "weight_decay": 0.0, "microbatch": 32}, resized_crop=224)
    assert recipes.CIFAR.input_shape((32, 32, 3)) == (32, 32, 3)
    assert (recipes.stored_side(224), recipes.stored_side(299)) == (256, 342)


def test_the_sweeps_grid_by_hand():
    """7 learning rates from 0.001 to 1, each with 7 ratios from 1e-5 to 1e-2 and none."""
    grid = recipes.sweep_grid()
    rate, decay = grid["learning_rate"].reshape(7, 8), grid["weight_decay"].reshape(7, 8)
    half = 10**0.5
    np.testing.assert_allclose(rate, np.repeat([[1e-3, 1e-3 * half, 0.01, 0.01 * half, 0.1, 0.1 * half, 1]], 8, 0).T)
    expected = [0, 1e-5, 1e-5 * half, 1e-4, 1e-4 * half, 1e-3, 1e-3 * half, 1e-2]
    np.testing.assert_allclose(decay / rate, np.repeat([expected], 7, 0))


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
    assert type(dataclasses.replace(recipe, microbatch=np.int64(8), resized_crop=4.0).resized_crop) is int
    assert recipe == Recipe(epochs=2, batch_size=16, learning_rate=0.5, warmup_epochs=1.0, flip=True)
    kinds = [type(getattr(recipe, name)) for name in ("epochs", "batch_size", "learning_rate", "warmup_epochs", "flip")]
    assert kinds == [int, int, float, float, bool]


def test_way_through_json():
    recipe = Recipe(schedule="step", milestones=(3, 5), normalization=((0.5, 0.2), (0.4, 0.3)))
    again = Recipe.from_dict(json.loads(json.dumps(recipe.to_dict())))
    assert again == recipe and hash(again) == hash(recipe)


def test_recipes_of_older_runs_are_read():
    """The recipes of older runs lack the fields that came later."""
    recipe = Recipe(epochs=3, crop_padding=2)
    older = {name: value for name, value in recipe.to_dict().items() if name not in ("microbatch", "resized_crop")}
    assert Recipe.from_dict(older) == recipe


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": -1}, "epochs is -1; it takes a whole number from 0"),
        ({"epochs": 1.5}, "epochs is 1.5"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"microbatch": 0}, "microbatch is 0; it takes a whole number from 1 to 1000000000, or None"),
        ({"microbatch": True}, "microbatch is True"),
        ({"batch_size": 64, "microbatch": 24}, "microbatch is 24, which does not divide the batch_size 64"),
        ({"batch_size": 64, "microbatch": 128}, "microbatch is 128, which does not divide"),
        ({"resized_crop": 2.5}, "resized_crop is 2.5; it takes a whole number from 1 to 4096, or None"),
        ({"resized_crop": float("nan")}, "resized_crop is nan"),
        ({"resized_crop": 8, "crop_padding": 1}, "resized_crop is 8 and crop_padding 1; a recipe takes one kind"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"momentum": 1.1}, "momentum is 1.1"),
        ({"weight_decay": "high"}, "weight_decay is 'high'"),
        ({"optimizer": "lion"}, "optimizer is 'lion'; it takes one of 'sgd', 'adamw'"),
        ({"schedule": "step"}, "needs at least one"),
        ({"milestones": (3,)}, "milestones go with"),
        ({"schedule": "step", "milestones": (5, 3)}, "rising epochs"),
        ({"milestones": 5}, "milestones is 5"),
        ({"nesterov": True, "momentum": 0.0}, "nesterov is True, a form of"),
        ({"warmup_epochs": 30.0}, "it takes a number from 0 to the 20 epochs"),
        ({"compute_dtype": "float16"}, "compute_dtype is 'float16'"),
        ({"normalization": "dataset"}, "normalization is 'dataset'"),
        ({"normalization": ((0.5, 0.0),)}, "deviation above 0"),
        ({"normalization": (0.5, 0.2)}, "for each channel"),
    ],
)
def test_refusals(options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        Recipe(**options)


def test_flip_takes_a_truth_value():
    with pytest.raises(TypeError, match="flip is 'no'; it takes True or False"):
        Recipe(flip="no")
