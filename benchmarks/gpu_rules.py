"""Whether models keep their bits on the graphics card of this machine, as the project's rules promise.

    python -m benchmarks.gpu_rules                                      five networks by their default way
    python -m benchmarks.gpu_rules --cases small_cnn --kernels xla      one network by XLA's own convolutions

Each network is trained several times on random numbers of its data's shape: again, in another process, among other models, with
other values in the examples that no subset has, and with a stop after the first epoch. Every time the margins of all examples are
compared with those of the first time. XLA tries algorithms on the card when it compiles, so that another process may take others.
Without a card the same command tries the processor.
"""

import dataclasses
import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
from rich.table import Table

import jaxinfl
from benchmarks.gpu_compile import CASES, Case
from benchmarks.gpu_report import made_up_data
from benchmarks.record import console, write_json
from jaxinfl.arguments import check_choice, expand_home
from jaxinfl.datasets import Dataset
from jaxinfl.models.layers import Kernels
from jaxinfl.training.machine import choose_execution

_STEPS = 4
"""Steps of an epoch: a sum whose order changes shows in one step, and training makes it grow."""
_MODELS = 16
"""Number of models at once, at most."""
CHECKS = ("again", "another process", "other neighbours", "other values left out", "a stop between")
"""What is changed, in the order of the table."""


@dataclass(frozen=True)
class Config:
    """Options of the command line."""

    cases: tuple[str, ...] = ("small_mlp", "small_cnn", "transformer", "small_inception", "small_resnet9")
    """Names of the networks."""
    kernels: Kernels | None = None
    """Kernels that compute the layers; by default those that jaxinfl takes."""
    digest_of_width: int = 0
    """Number of models at once of a process that prints nothing but a hash of the margins of one network; 0 checks."""
    out: Path = Path("results/benchmarks")
    """Folder that the JSON file is written to."""


def main(config: Config) -> Path | None:
    """Check the networks, print a table and write it as JSON; returns the file."""
    for name in config.cases:
        check_choice(name, "--cases", tuple(CASES))
    if config.digest_of_width:
        print(_digest(Trained(CASES[config.cases[0]], config.kernels, config.digest_of_width).first))
        return None
    kind = jax.devices()[0].device_kind
    table = Table(title=f"{kind}: largest change of a margin, where a bit of one changes", title_justify="left")
    for heading in ("network", "way", *CHECKS):
        table.add_column(heading)
    rows = []
    for name in config.cases:
        console.print(f"  training {name}", style="dim")
        trained = Trained(CASES[name], config.kernels)
        found = {check: _describe(change) for check, change in trained.changes().items()}
        rows.append({"case": name, "kernels": trained.kernels, "width": trained.width, "changes": found})
        table.add_row(name, f"{trained.kernels}, {trained.width} at once", *(found[check] for check in CHECKS))
        jax.clear_caches()
    console.print(table)
    return write_json("gpu_rules", {"card": kind, "networks": rows}, expand_home(config.out, "--out"))


class Trained:
    """Trainings of one network that should give the same bits."""

    def __init__(self, case: Case, kernels: Kernels | None, width: int = 0):
        recipe = dataclasses.replace(case.recipe, epochs=2)
        num_train = 2 * _STEPS * recipe.batch_size
        self.case = dataclasses.replace(case, recipe=recipe, num_train=num_train, num_test=case.outputs)
        self.data = made_up_data(self.case)
        self.width, self.kernels = width, kernels
        if not width or kernels is None:
            model = jaxinfl.models.build_model(case.model, inputs=self.case.spec, outputs=case.outputs)
            default = choose_execution(model, recipe, self.data, kernels=kernels)
            self.width, self.kernels = min(default.width, _MODELS), default.kernels
        models = max(2, self.width) * jax.device_count()
        self.masks = jaxinfl.draw_subsets(models, self.data.num_train, 0.55, 0)
        # The last examples are in no subset.
        self.masks[:, -recipe.batch_size :] = False
        self.keys = jax.random.split(jax.random.key(0), models)
        self.first = self.margins()

    def margins(self, data: Dataset | None = None, models: Any = slice(None), **options: Any) -> np.ndarray:
        """Margins of the examples [models, examples], of training examples only those that some subset has."""
        runs = jaxinfl.train_ensemble(
            self.masks[models],
            self.keys[models],
            data=self.data if data is None else data,
            model=self.case.model,
            recipe=self.case.recipe,
            width=self.width,
            kernels=self.kernels,
            tune=False,
            progress=False,
            **options,
        )
        train = runs.train_score("margin")[:, : -self.case.recipe.batch_size]
        return np.concatenate([train, runs.test_score("margin")], axis=1)

    def changes(self) -> dict[str, float | None]:
        """Largest change of a margin by what was changed: None where every bit is the same, infinity where it is unknown how large."""
        some = np.random.default_rng(0).permutation(len(self.masks))[: -(-len(self.masks) // 2)]
        inputs, targets = np.array(self.data.train_inputs), np.array(self.data.train_targets)
        inputs[-self.case.recipe.batch_size :] = inputs[: self.case.recipe.batch_size]
        targets[-self.case.recipe.batch_size :] = 0
        other = dataclasses.replace(self.data, train_inputs=inputs, train_targets=targets)
        return {
            "again": _change(self.first, self.margins()),
            "another process": None if self._in_another_process() == _digest(self.first) else float("inf"),
            "other neighbours": _change(self.first[some], self.margins(models=some)),
            "other values left out": _change(self.first, self.margins(other)),
            "a stop between": _change(self.first, self.margins(keep_epochs=(1,))),
        }

    def _in_another_process(self) -> str:
        options = ["--cases", self.case.name, "--kernels", str(self.kernels), "--digest-of-width", str(self.width)]
        command = [sys.executable, "-m", "benchmarks.gpu_rules", *options]
        # This process holds three quarters of the card's memory.
        environment = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout.split()[
            -1
        ]


def _change(one: np.ndarray, other: np.ndarray) -> float | None:
    return None if np.array_equal(one, other, equal_nan=True) else float(np.nanmax(np.abs(one - other)))


def _digest(values: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()


def _describe(change: float | None) -> str:
    return "the same bits" if change is None else "other bits" if np.isinf(change) else f"{change:.1e}"


if __name__ == "__main__":
    main(tyro.cli(Config, description=(__doc__ or "").split("\n\n")[0]))
