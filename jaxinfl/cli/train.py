"""`jaxinfl train`: many models, each on its own random subset, into a run directory."""

import shlex
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import numpy as np
import tyro

from jaxinfl.arguments import expand_home
from jaxinfl.cli.answer import Answer, format_number
from jaxinfl.cli.data_options import DataOptions, choose_examples, load_named, standardize_floats
from jaxinfl.cli.run_options import choose_score, describe_run
from jaxinfl.cluster import Cluster, train_on_cluster
from jaxinfl.datasets import Dataset
from jaxinfl.store import Ensemble
from jaxinfl.subsets import Design, draw_subsets
from jaxinfl.training import Cost, Job, Recipe, train_ensemble, training_cost
from jaxinfl.units import format_seconds


@dataclass(frozen=True, kw_only=True)
class Options(DataOptions):
    """Train many models, each on its own random subset of the data, into a run directory.

    The same command goes on after an interruption. With a larger `--models` it adds models to the run.

    For example:

        jaxinfl train data.npz --models 400 --model small_cnn --out runs/a
    """

    data: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]
    out: Path
    """Run directory of the models; one that was begun by the same command goes on."""
    models: int = 400
    """Number of models to train."""
    ratio: float = 0.7
    """Share of the training examples in each subset, above 0 and at most 1."""
    design: Design = "uniform"
    """Design of the subsets: uniform draws each by itself, balanced has every example in equally many, complementary splits the examples in pairs of halves. Intervals and tests of pairs take uniform."""
    model: str = "small_mlp"
    """Registered name of the network, such as small_mlp, small_cnn, transformer, small_inception or resnet18_cifar."""
    recipe: Recipe = field(default_factory=lambda: Recipe(epochs=10))
    """Recipe by which each model is trained."""
    standardize: bool = True
    """Whether floats, which a table has, are scaled by the mean and deviation of each model's own subset; images are not concerned."""
    seed: int = 0
    """Seed of every random number: subsets, initial weights, data order, augmentation."""
    keep_weights: bool = False
    """Keep the final weights, too, so that the models can be evaluated on other examples."""
    keep_outputs: Literal["test", "both"] | None = None
    """Examples for which the outputs themselves are kept, too: those of the test set or of both sets; None keeps scores alone."""
    keep_epochs: tuple[int, ...] = ()
    """Epochs, counted from 1, after which all scores are kept, too."""
    part: str | None = None
    """Part of the models to train, 1/4 for the first quarter, so that processes that share a folder share the work."""
    cluster: Cluster = field(default_factory=Cluster)
    """Processes that train the models."""
    jobs: int = 8
    """Number of processes that train at the same time on the cluster; a run that was begun keeps its number of parts."""
    mixed_devices: bool = False
    """Go on with a run on devices of another kind, which changes the last bits of the models; the run records the device of each."""
    max_diverged: float = 0.05
    """Share of the models that may diverge; if more do, the training ends."""
    cost: bool = False
    """Print what the training would cost on this machine, and train nothing."""
    json: bool = False
    """Print one JSON document on standard output in place of text."""


def run(options: Options) -> Answer:
    """Train the models, or tell the cost of that.

    Raises:
      ValueError: an option does not fit the data or the other options.
      RunDirectoryError: the directory holds another run.
    """
    if not 0 <= options.seed < 2**32:
        raise ValueError(f"--seed is {options.seed}; it takes a whole number from 0 to {2**32 - 1}.")
    part, out = parse_part(options.part, options.cluster), expand_home(options.out, "--out")
    if options.cluster.kind is not None:
        # The memory of a card is for the processes that train: before anything of JAX takes it.
        jax.config.update("jax_platforms", "cpu")
    data = choose_examples(load_named(options), options)
    recipe = standardize_floats(options.recipe, data) if options.standardize else options.recipe
    arguments: dict[str, Any] = {
        "masks": draw_subsets(options.models, data.num_train, options.ratio, options.seed, options.design),
        "keys": jax.random.split(jax.random.key(options.seed), options.models),
        "data": data,
        "model": options.model,
        "recipe": recipe,
        "run_dir": out,
        "keep_weights": options.keep_weights,
        "keep_outputs": options.keep_outputs,
        "keep_epochs": options.keep_epochs,
    }
    if options.cost:
        return _tell_cost(training_cost(**arguments))
    begun = time.perf_counter()
    runs = _train(arguments, part, options)
    return _summarize(runs, data, out, time.perf_counter() - begun)


def _train(arguments: dict[str, Any], part: tuple[int, int] | None, options: Options) -> Ensemble:
    """Train in this process, or by a cluster."""
    how: dict[str, Any] = {"max_diverged": options.max_diverged, "mixed_devices": options.mixed_devices}
    if options.cluster.kind is None:
        return train_ensemble(**arguments, **how, part=part, on_cost=_announce)
    run_dir = arguments.pop("run_dir")
    return train_on_cluster(Job.make(**arguments), run_dir, jobs=options.jobs, cluster=options.cluster, **how)


def parse_part(part: str | None, cluster: Cluster) -> tuple[int, int] | None:
    """(1, 4) of "1/4".

    Raises:
      ValueError: it is no number and count, or a cluster divides the models.
    """
    if part is None:
        return None
    number, slash, parts = part.partition("/")
    if not (slash and number.isdecimal() and parts.isdecimal() and 1 <= int(number) <= int(parts)):
        raise ValueError(f"--part is {part!r}; it takes a number and a count, 1/4 for the first quarter of the models.")
    if cluster.kind is not None:
        raise ValueError("--part and --cluster are given, but a cluster divides the models by itself. Leave one out.")
    return int(number), int(parts)


def _announce(cost: Cost) -> None:
    """Print the cost before the training starts; standard output is for the answer."""
    print(cost.describe(), file=sys.stderr)


def _tell_cost(cost: Cost) -> Answer:
    values = {
        "models": cost.num_models,
        "finished": cost.finished,
        "model": cost.model,
        "num_params": cost.num_params,
        "device": cost.device,
        "seconds": cost.seconds,
        "seconds_per_model": cost.seconds_per_model,
        "compile_seconds": cost.compile_seconds,
        "flops": cost.flops,
        "memory_bytes": cost.memory_bytes,
        "disk_bytes": cost.disk_bytes,
    }
    return Answer([cost.describe(), "Nothing was trained."], values)


def _summarize(runs: Ensemble, data: Dataset, out: Path, seconds: float) -> Answer:
    score = choose_score(runs, None)
    mean = float(np.mean(runs.test_score(score), dtype=np.float64)) if len(runs) else float("nan")
    values = {"run_dir": str(out), **describe_run(runs), "seconds": seconds, "score": score, "mean_test_score": mean}
    diverged = f", {runs.num_diverged} diverged" if runs.num_diverged else ""
    lines = [
        f"data       {data.name}: {data.num_train} train, {data.num_test} test; task: {data.task.name}",
        f"models     {len(runs)} are in {out}{diverged}; this took {format_seconds(seconds)}",
        f"{score:<10} {format_number(mean)} on the test examples, the mean over all models",
    ]
    if runs.complete:
        lines += ["To go on, try:", f"    jaxinfl pairs {shlex.quote(str(out))}"]
    else:
        lines.append("The run is not complete: the same command trains what is missing.")
    return Answer(lines, values)
