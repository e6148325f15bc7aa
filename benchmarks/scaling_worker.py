"""Trains an ensemble on random images again and again, for `benchmarks/scaling.py`.

Also as a process of its own, because the number of JAX's devices is fixed when it starts: `python -m
benchmarks.scaling_worker MODELS TRAIN MODEL` prints a line when it is compiled, then for each line of its input the
seconds a model of one more run.
"""

import sys
import time

import jax
import numpy as np

import jaxinfl
from jaxinfl import Dataset, Recipe
from jaxinfl.models import build_model
from jaxinfl.training.machine import choose_execution

RECIPE = Recipe(epochs=4, batch_size=64)
RATIO = 0.75
"""Share of the examples in a subset; it makes whole batches of 1024 examples, their halves and doubles."""
NUM_TEST = 256


class Worker:
    """One ensemble, trained anew by each call of `seconds_per_model`; compiled by the first."""

    def __init__(self, models: int, train: int, model: str, *, whole_groups: bool = True):
        self._data = random_images(train)
        self._model = build_model(model, inputs=self._data.image_shape, outputs=self._data.num_classes)
        if whole_groups:
            # A call into compiled code that is not full leaves devices idle.
            group = choose_execution(self._model, RECIPE, self._data).group
            models = group * -(-models // group)
        self._masks = jaxinfl.draw_subsets(models, train, RATIO)
        self._keys = jax.random.split(jax.random.key(0), models)

    def seconds_per_model(self) -> float:
        """Seconds of training and evaluating a model, from the moment when its cost is told and it is about to start."""
        begun: list[float] = []
        jaxinfl.train_ensemble(
            self._masks,
            self._keys,
            data=self._data,
            model=self._model,
            recipe=RECIPE,
            progress=False,
            on_cost=lambda cost: begun.append(time.perf_counter()),
        )
        return (time.perf_counter() - begun[0]) / len(self._masks)


def random_images(train: int) -> Dataset:
    """8x8 grey images of 10 classes; the time does not depend on what they show."""
    rng = np.random.default_rng(0)

    def split(size: int) -> tuple[np.ndarray, np.ndarray]:
        return rng.integers(0, 256, (size, 8, 8, 1), np.uint8), np.arange(size) % 10

    (train_inputs, train_targets), (test_inputs, test_targets) = split(train), split(NUM_TEST)
    return Dataset(
        train_inputs=train_inputs,
        train_targets=train_targets,
        test_inputs=test_inputs,
        test_targets=test_targets,
        name="random images",
    )


def main(models: int, train: int, model: str) -> None:
    """Serve until the input ends."""
    worker = Worker(models, train, model)
    worker.seconds_per_model()
    print("ready", flush=True)
    for _ in sys.stdin:
        print(worker.seconds_per_model(), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
