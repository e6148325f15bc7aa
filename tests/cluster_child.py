"""A process that drives a run on a cluster, for tests that kill it: `python -m tests.cluster_child RUN_DIR KIND [OPTION=VALUE ...]`."""

import os
import sys

import jax

import jaxinfl
from jaxinfl.training.job import Job

MODELS = 12
RECIPE = jaxinfl.Recipe(epochs=120, batch_size=16, momentum=0.9)


def make_job(epochs: int | None = None) -> Job:
    """A job of `MODELS` small perceptrons on digits, each of which takes a fraction of a second, or as many epochs as EPOCHS says."""
    epochs = epochs or int(os.environ.get("EPOCHS", RECIPE.epochs))
    data = jaxinfl.load_dataset("digits")
    masks = jaxinfl.draw_subsets(MODELS, data.num_train, seed=0)
    keys = jax.random.split(jax.random.key(0), MODELS)
    recipe = jaxinfl.Recipe(epochs=epochs, batch_size=RECIPE.batch_size, momentum=RECIPE.momentum)
    return Job.make(masks, keys, data, "small_mlp", recipe, keep_weights=True)


def train(
    run_dir: object, cluster: jaxinfl.Cluster, jobs: int = 4, job: Job | None = None, **options: object
) -> jaxinfl.Ensemble:
    """Train it on a cluster, in small shards and with frequent checkpoints."""
    options = {"shard_size": 2, "checkpoint_every": 0.5, "tune": False, "progress": False} | options
    return jaxinfl.train_on_cluster(job or make_job(), run_dir, jobs=jobs, cluster=cluster, **options)


def main(run_dir: str, kind: str, *options: str) -> None:
    """Print "called" before the call and "returned" after it."""
    print("called", flush=True)
    train(run_dir, jaxinfl.Cluster(kind, **dict(option.split("=") for option in options)))
    print("returned", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
