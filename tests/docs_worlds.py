"""Files and names that a page of the documentation takes for granted, because its readers have them."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jaxinfl
from tests.example_tables import cifar10, write_archive, write_csv, write_images, write_tables
from tests.twins import make_twin, write_datamodels_data, write_feldman_zhang, write_lira, write_pairs


def prepare(page: str, names: dict[str, Any]) -> None:
    """Put into the current folder, and into the names of the page's programs, what the page takes for granted."""
    world = _WORLDS.get(page)
    if world is not None:
        world(names)


def _readme(names: dict[str, Any]) -> None:
    """An attribution by another method."""
    names["attribution"] = np.random.default_rng(0).normal(size=(1437, 360))


def _api(names: dict[str, Any]) -> None:
    """A table of which several rows belong to one patient each."""
    data = jaxinfl.load_dataset("breast_cancer")
    names |= {"jaxinfl": jaxinfl, "jax": jax, "data": data, "patient": np.arange(data.num_train) // 3}


def _data(names: dict[str, Any]) -> None:
    """Folders of images, of a table with a column of text, and of tokens."""
    write_images(Path("pets"))
    rows = "".join(f"{k % 5},{20 + k},{('Aa', 'Bb', 'Cc')[k % 3]},{k * 1.5}\n" for k in range(30))
    write_csv(Path("houses"), f"rooms,area,town,price\n{rows}", f"rooms,area,town,price\n{rows}")
    write_tables(Path("reviews"))


def _published_runs(names: dict[str, Any]) -> None:
    """Made-up files of the published forms."""
    twin = make_twin(models=2000)
    write_feldman_zhang(twin, Path("heldout-influence-estimation/cifar100"))
    write_datamodels_data(twin, Path("datamodels-data"))
    write_lira(make_twin(models=32), Path("exp/cifar10"))
    write_pairs(Path())
    files, _, labels = cifar10()
    write_archive(Path("cifar-10-binary.tar.gz"), files)
    held_out = np.random.default_rng(0).random(len(labels))
    np.savez("cifar10-cscores-orig-order.npz", labels=labels, scores=held_out)
    masks = jaxinfl.draw_subsets(20, len(labels))
    right = np.random.default_rng(1).random(masks.shape) < held_out
    names["cifar10_runs"] = jaxinfl.Ensemble.from_scores(masks, {"correct": right})
    folder = Path("runs/bergson")
    folder.mkdir(parents=True)
    (folder / "subsets.json").write_text(json.dumps([[k, k + 1] for k in range(10)]))
    names["losses"] = np.random.default_rng(0).random((10, 4))


_WORLDS = {"README": _readme, "api": _api, "data": _data, "published_runs": _published_runs}
