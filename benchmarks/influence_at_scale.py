"""A process that compares estimates at CIFAR-100's size and prints, as JSON, how long each took and its peak memory.

Run by `benchmarks/influence_kernel.py` as `python -m benchmarks.influence_at_scale TASK MODELS TRAIN TEST`. A process for
each task, because the operating system knows of one peak for a whole process.
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import jaxinfl
from jaxinfl.influence import iou_of_models

TASKS = ("iou_curve", "top_pairs", "iou, every row")
THRESHOLDS = np.linspace(0.025, 1, 40)
MEMORIZED_SHARE = 0.35
"""Share of the training examples that are memorized, with a memorization spread over 0.25 to 0.95: about what Feldman and Zhang (2020, Figure 1)
report for CIFAR-100. All others have next to none."""


def draw(models: int, train: int, test: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw masks, and which models are right on training and test examples: random, with a realistic memorization profile."""
    rng = np.random.default_rng(0)
    masks = jaxinfl.draw_subsets(models, train, ratio=0.7)
    memorization = np.where(rng.random(train) < MEMORIZED_SHARE, rng.uniform(0.3, 0.95, train), 0.02)
    outside = rng.uniform(0, 1 - memorization)
    train_correct, test_correct = np.empty((models, train), bool), np.empty((models, test), bool)
    base = rng.beta(2, 0.8, test)
    for model in range(models):  # a float array for all models would be the peak of memory
        train_correct[model] = rng.random(train) < outside + memorization * masks[model]
        test_correct[model] = rng.random(test) < base
    return masks, train_correct, test_correct


def tasks(models: int, train: int, test: int) -> dict[str, Callable[[], object]]:
    """The functions that are timed, by name; each is one call of the library on inputs that lie ready."""
    masks, train_correct, test_correct = draw(models, train, test)
    half = models // 2
    return {
        "iou_curve": lambda: jaxinfl.iou_curve(
            masks, train_correct, test_correct, num_models=[half], thresholds=THRESHOLDS, repeats=1
        ),
        "top_pairs": lambda: jaxinfl.top_pairs(masks, train_correct, test_correct, k=1000),
        "iou, every row": lambda: iou_of_models(
            masks[:half], test_correct[:half], masks[half:], test_correct[half:], THRESHOLDS
        ),
    }


def main(task: str, models: int, train: int, test: int) -> None:
    """Print one line of JSON: seconds of the second call, and the peak of the whole process in bytes."""
    call = tasks(models, train, test)[task]
    call()
    begun = time.perf_counter()
    call()
    seconds = time.perf_counter() - begun
    print(json.dumps({"seconds": seconds, "peak_bytes": peak_bytes()}))


def peak_bytes() -> int:
    """The most memory that this process has held."""
    status = Path("/proc/self/status")
    if status.is_file():  # Linux; there `getrusage` starts from the peak of the process that started this one
        held = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return 1024 * int(held.split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
