"""Models in the forms of tests/test_own_models.py that are refused, with the reason."""

import equinox as eqx
import jax
import numpy as np
import pytest
from flax import linen, nnx

from tests.test_own_models import Equinox, Linen, apply, build, init, init_stats


def returns(variables):
    return (lambda key: variables, apply)


class Subclass(linen.BatchNorm):
    @linen.compact
    def __call__(self, x):
        return super().__call__(x, use_running_average=False)


made = Equinox(jax.random.key(0))
REFUSED = {
    "one function": ((init,), TypeError, r"model is .*a tuple takes a pair of functions `init\(key\)"),
    "no function": ((init, 3), TypeError, "a tuple takes a pair"),
    "init without a key": ((lambda: 0, apply), TypeError, r"its init, .*cannot be called as `init\(key\)`"),
    "apply without train": (
        (init, lambda v, x, *, key: x),
        TypeError,
        r"its apply, .*unexpected keyword argument 'train'",
    ),
    "integers": (returns({"a": np.arange(3)}), TypeError, r"params\.a has dtype int\d+; what is trained is floats"),
    "a number": (returns({"a": [0.5]}), TypeError, r"params\.a\.0 is 0\.5 .*jnp\.asarray"),
    "the key": ((lambda key: {"k": key}, apply), TypeError, r"params\.k is a random key"),
    "no statistics back": ((init_stats, apply), TypeError, None),
    "a fixed key": ((lambda key: init(jax.random.key(0)), apply), ValueError, r"0\.0 is drawn from a fixed key"),
    "chance": ((lambda key: jax.tree.map(lambda w: w * np.random.rand(), init(key)), apply), ValueError, "built twice"),
    "coupled": (
        (init, lambda v, x, *, train, key: apply(v, x[::-1], train=train, key=key)),
        ValueError,
        "in evaluation the outputs for one example change",
    ),
    "other outputs": ((init, lambda v, x, **_: x), ValueError, r"outputs of the shape \(2, 3\)"),
    "a Linen class": (Linen, TypeError, r"the class Linen of Flax Linen; .*model=Linen\(\.\.\.\)"),
    "Linen across devices": (
        linen.Sequential([linen.Dense(3), linen.BatchNorm(axis_name="i")]),
        ValueError,
        "axis_name='i'",
    ),
    "Linen along the batch": (linen.Sequential([linen.Dense(3), linen.BatchNorm(axis=0)]), ValueError, "axis=0"),
    "a subclass of batch norm": (
        linen.Sequential([linen.Dense(3), Subclass()]),
        TypeError,
        "Subclass, a subclass of linen",
    ),
    "an Equinox module": (made, TypeError, r"an instance of Equinox; .*lambda key: Equinox\(\.\.\., key=key\)"),
    "the same Equinox module": (lambda key: made, ValueError, "one and the same module at every call"),
    "an Equinox class with more": (eqx.nn.MLP, TypeError, "cannot be called with one argument, `key`.*in_size"),
    "Equinox's batch norm": (
        lambda key: eqx.nn.Sequential([eqx.nn.Linear(4, 3, key=key), eqx.nn.BatchNorm(3, "batch", mode="batch")]),
        ValueError,
        r"keeps an equinox\.nn\.State.*cannot be told which examples only fill up",
    ),
    "with its state": (
        lambda key: eqx.nn.make_with_state(eqx.nn.BatchNorm)(3, "batch", mode="batch"),
        ValueError,
        "keeps an equinox",
    ),
    "NNX by a key": (lambda key: nnx.Linear(4, 3, rngs=nnx.Rngs(0)), TypeError, "calls its parameter `rngs`"),
    "nothing": (3, TypeError, r"model is 3 .*Linen.*equinox.*pair of functions"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name):
    model, error, message = REFUSED[name]
    with pytest.raises(error, match=message):
        build(model)
