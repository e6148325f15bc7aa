"""The process that `tests/chaos.py` kills: it trains on digits, in calls of a tenth of a second, with a checkpoint each."""

import sys
from typing import Any

import jax
import numpy as np

import jaxinfl
from jaxinfl.training import loop


class Announced:
    """Masks that print a line when they are read, which is inside the call."""

    def __init__(self, masks: np.ndarray):
        self._masks = masks

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        print("called", flush=True)
        return self._masks


def main(run_dir: str, models: int, cache: str) -> None:
    """Print "called" from inside the call of `train_ensemble`, and "returned" after it."""
    jax.config.update("jax_compilation_cache_dir", cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    loop.CALL_SECONDS = 0.1
    data = jaxinfl.load_dataset("digits")
    jaxinfl.train_ensemble(
        Announced(jaxinfl.draw_subsets(models, data.num_train, seed=0)),
        jax.random.split(jax.random.key(0), models),
        data=data,
        model="small_mlp",
        recipe=jaxinfl.Recipe(epochs=60, batch_size=16, momentum=0.9),
        run_dir=run_dir,
        shard_size=models // 3,
        keep_weights=True,
        checkpoint_every=0.2,
        progress=False,
        tune=False,
    )
    print("returned", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
