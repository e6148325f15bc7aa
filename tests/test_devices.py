"""Results do not depend on the number of devices: the same bits on 1, 2 and 8, which do not divide the models."""

import os
import subprocess
import sys

import numpy as np
import pytest

PROGRAM = """
import hashlib, sys
import jax, numpy as np
import jaxinfl
from jaxinfl.models import SmallCNN

rng = np.random.default_rng(0)
images, labels = rng.integers(0, 256, (60, 16, 16, 3), dtype=np.uint8), rng.integers(0, 3, 60).astype(np.int32)
data = jaxinfl.Dataset(train_inputs=images[:44], train_targets=labels[:44], test_inputs=images[44:], test_targets=labels[44:])
masks = np.stack([rng.permutation(44) < size for size in (10, 25, 40, 44, 33)])
keys = jax.random.split(jax.random.key(0), 5)
assert jax.device_count() == int(sys.argv[1])

def cnn(rngs):
    return SmallCNN((16, 16, 3), 3, widths=(8, 16), strides=(1, 2), rngs=rngs)

for model in (cnn, "mlp"):
    optimizer = {"optimizer": "adamw", "learning_rate": 1e-3} if model == "mlp" else {}
    recipe = jaxinfl.Recipe(epochs=2, batch_size=16, crop_padding=2, flip=True, **optimizer)
    runs = jaxinfl.train_ensemble(masks, keys, data=data, model=model, recipe=recipe, tune=False, progress=False)
    print(hashlib.sha256(runs.test_margin.tobytes() + runs.train_margin.tobytes()).hexdigest())
"""


EIGHT = """
import sys
import jax, numpy as np
from tests.conftest import make_data
from tests.small_ensembles import ARRAYS, keys_of, subsets, train

assert jax.device_count() == 8
runs = train(subsets(), keys_of(6), make_data())
np.savez(sys.argv[1], **{name: getattr(runs, name) for name in ARRAYS})
"""


def test_the_same_bits_on_2_and_8_devices(base, tmp_path):
    """Two are those of this process."""
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "8"}
    command = [sys.executable, "-c", EIGHT, str(tmp_path / "eight.npz")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "eight.npz") as eight:
        for name, values in eight.items():
            np.testing.assert_array_equal(values, getattr(base, name), err_msg=name)


@pytest.mark.slow
def test_the_same_bits_on_1_2_and_8_devices():
    """Partial batches, batch norm, large matrix products (the MLP's first layer has 768 inputs), Adam's divisions."""
    ways: tuple[dict[str, str], ...] = (
        {"JAX_NUM_CPU_DEVICES": "1"},
        {"JAX_NUM_CPU_DEVICES": "2"},
        {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"},
    )
    printed = []
    for count, way in zip("128", ways, strict=True):
        environment = {
            name: value for name, value in os.environ.items() if name not in ("NPROC", "JAX_NUM_CPU_DEVICES")
        }
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, count], env=environment | way, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        printed.append(done.stdout.split())
    assert printed[0] == printed[1] == printed[2] and len(set(printed[0])) == 2


KINDS_OF_DATA = """
import hashlib, sys
from tests.test_any_data import KINDS, train

for name, kind in KINDS.items():
    runs = train(kind)
    scores = b"".join(score(each).tobytes() for each in runs.scores for score in (runs.train_score, runs.test_score))
    print(f"{name}: {hashlib.sha256(scores).hexdigest()}")
"""
LAST_BITS = ("Equinox",)
"""XLA inlines calls earlier where a program is for several devices, and then simplifies the vmapped product of an Equinox network
with one output differently: its last bits depend on whether there is one device or several (docs/own_models.md)."""


@pytest.mark.slow
def test_the_same_bits_of_every_kind_of_data_on_1_2_and_8_devices():
    printed = []
    for count in "128":
        environment = os.environ | {"JAX_NUM_CPU_DEVICES": count}
        done = subprocess.run(
            [sys.executable, "-c", KINDS_OF_DATA], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        printed.append(dict(line.split(": ") for line in done.stdout.splitlines()))
    one, two, eight = printed
    assert two == eight
    for name in one:
        assert name in LAST_BITS or one[name] == two[name], name
