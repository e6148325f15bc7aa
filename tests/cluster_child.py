"""A process that drives a run on a cluster, for tests that kill it: `python -m tests.cluster_child RUN_DIR KIND [OPTION=VALUE ...]`."""

import os
import sys

import jax

import jaxinfl
from jaxinfl.training.job import Job

MODELS = 24
EPOCHS = 120
LONG = 1000
"""Number of epochs of models that take half a second, so that whoever disturbs a run meets it at work, on a fast machine too."""


def make_job(epochs: int = EPOCHS) -> Job:
    """A job of `MODELS` small perceptrons on digits, each of which takes 60 ms unless there are more epochs."""
    data = jaxinfl.load_dataset("digits")
    masks = jaxinfl.draw_subsets(MODELS, data.num_train, seed=0)
    keys = jax.random.split(jax.random.key(0), MODELS)
    recipe = jaxinfl.Recipe(epochs=epochs, batch_size=16, momentum=0.9)
    return Job.make(masks, keys, data, "small_mlp", recipe, keep_weights=True)


def train(
    run_dir: object, cluster: jaxinfl.Cluster, jobs: int = 4, job: Job | None = None, **options: object
) -> jaxinfl.Ensemble:
    """Train it on a cluster, in small shards and with frequent checkpoints."""
    options = {"shard_size": 2, "checkpoint_every": 0.2, "tune": False, "progress": False} | options
    return jaxinfl.train_on_cluster(job or make_job(), run_dir, jobs=jobs, cluster=cluster, **options)


def train_alone(epochs: int = EPOCHS, run_dir: object = None) -> jaxinfl.Ensemble:
    """Train the same models in this process, without a disturbance."""
    job = make_job(epochs)
    options = {"keep_weights": True, "tune": False, "progress": False}
    return jaxinfl.train_ensemble(
        job.masks, job.keys, data=job.data, model="small_mlp", recipe=job.recipe, run_dir=run_dir, **options
    )


def main(run_dir: str, kind: str, *options: str) -> None:
    """Print "called" before the call and "returned" after it; the environment may say EPOCHS.

    Each of four parts is one shard of long models. On one core it has a checkpoint most of the time: they are written between two
    groups of models, of which each device trains one.
    """
    print("called", flush=True)
    epochs = int(os.environ.get("EPOCHS", EPOCHS))
    cluster = jaxinfl.Cluster(kind, **dict(option.split("=") for option in options))
    train(run_dir, cluster, job=make_job(epochs), shard_size=6 if epochs == LONG else 2)
    print("returned", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
