"""Exact joint counts and influence at 2000 models x 4096 train x 10000 test; IOU and top pairs at CIFAR-100's size.

    python -m benchmarks.influence_kernel           about 3 minutes on 2 cores
    python -m benchmarks.influence_kernel --quick   seconds, for tests

jaxinfl's counts and influence are compared, in turns, with the published NumPy formula (two masked matrix products) and one
float32 GEMM of the same size in JAX. Any formula with floating-point matrices must do at least that GEMM. Influence of float
scores is exact too, for which it takes two such products. Then come 2000 models x 50,000 train x 10,000 test, of which no
matrix is ever stored. Each task has a process of its own, whose seconds and peak of memory stand beside targets of 15 s and
2 GB.
"""

import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.table import Table

import jaxinfl
from benchmarks.compare import report, run_in_turns
from benchmarks.influence_at_scale import TASKS
from benchmarks.record import console
from jaxinfl.arguments import expand_home
from jaxinfl.influence import joint_counts


@dataclass(frozen=True)
class Config:
    """Options of the command line."""

    models: int = 2000
    """Number of models."""
    train: int = 4096
    """Number of training examples of the first part, the joint counts."""
    test: int = 10_000
    """Number of test examples."""
    large_train: int = 50_000
    """Number of training examples of the second part, the IOU and the top pairs."""
    rounds: int = 5
    """Number of timed rounds; the tables show medians."""
    quick: bool = False
    """Whether to take a small problem, to see that it runs."""
    out: Path = Path("results/benchmarks")
    """Folder that the JSON file is written to."""


def published_influence(masks: np.ndarray, correct: np.ndarray) -> np.ndarray:
    """Feldman and Zhang's published formula: two masked means by float32 matrix products; [test, train]."""
    seen, score = masks.astype(np.float32), correct.T.astype(np.float32)

    def mean(members: np.ndarray) -> np.ndarray:
        return (score @ members) / np.maximum(members.sum(0, keepdims=True), 1e-10)

    return mean(seen) - mean(1 - seen)


def main(config: Config) -> Path:
    """Measure and report; returns the JSON file."""
    config = dataclasses.replace(config, out=expand_home(config.out, "--out"))
    if config.quick:
        config = dataclasses.replace(config, models=100, train=64, test=50, large_train=400, rounds=1)
    rng = np.random.default_rng(0)
    masks = rng.random((config.models, config.train)) < 0.7
    correct = rng.random((config.models, config.test)) < rng.random(config.test)
    np.testing.assert_allclose(jaxinfl.influence(masks, correct), published_influence(masks, correct).T, atol=1e-5)
    seen, score = jnp.asarray(masks, jnp.float32), jnp.asarray(correct, jnp.float32)
    probability = rng.random(correct.shape, np.float32)
    gemm = jax.jit(lambda a, b: a.T @ b)
    contenders = {
        "joint_counts": _make_timer(lambda: joint_counts(masks, correct)),
        "influence": _make_timer(lambda: jaxinfl.influence(masks, correct)),
        "influence of float scores": _make_timer(lambda: jaxinfl.influence(masks, probability)),
        "one float32 GEMM (JAX)": _make_timer(lambda: gemm(seen, score)),
        "published formula (NumPy)": _make_timer(lambda: published_influence(masks, correct)),
    }
    measured = run_in_turns(contenders, config.rounds)
    title = f"{config.models} models x {config.train} train x {config.test} test"
    return report(
        "influence_kernel",
        title,
        "seconds",
        measured,
        ours="joint_counts",
        higher_is_better=False,
        out=config.out,
        more={"at_scale": _at_scale(config)},
    )


def _at_scale(config: Config) -> dict[str, dict[str, float]]:
    """Seconds and peak of memory of each task of `influence_at_scale`, printed as a table."""
    sizes = (config.models, config.large_train, config.test)
    table = Table(title="{} models x {} train x {} test".format(*sizes), title_justify="left")
    for heading in ("", "seconds", "peak of memory, GB"):
        table.add_column(heading, justify="left" if not heading else "right")
    found = {}
    for task in TASKS:
        command = [sys.executable, "-m", "benchmarks.influence_at_scale", task, *map(str, sizes)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
        found[task] = json.loads(done.stdout.splitlines()[-1])
        table.add_row(task, f"{found[task]['seconds']:.2f}", f"{found[task]['peak_bytes'] / 1e9:.2f}")
    console.print(table)
    return found


def _make_timer(function: Callable[[], object]) -> Callable[[], float]:
    def measure() -> float:
        begun = time.perf_counter()
        jax.block_until_ready(function())
        return time.perf_counter() - begun

    return measure


if __name__ == "__main__":
    main(tyro.cli(Config, description=(__doc__ or "").split("\n\n")[0]))
