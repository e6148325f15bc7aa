"""What all experiments share: one skeleton, presets, parts of models that follow from others, and costs without a data set."""

import ast
import dataclasses
import importlib
import inspect
import re
from pathlib import Path

import numpy as np
import pytest

import experiments
import jaxinfl
from experiments import ensembles, sweep
from experiments.command_line import Mistake, NothingMore, Options, load
from experiments.experiment import Experiment
from experiments.published_shapes import shapes_of, stand_in
from jaxinfl.datasets import is_prepared, load_dataset
from jaxinfl.report import read_results, write_results
from jaxinfl.training import workforce
from tests.small_experiments import ROOT
from tests.tfds_builders import tfds

FOLDER = Path(experiments.__file__).parent
NAMES = sorted(path.stem for path in FOLDER.glob("*.py") if "EXPERIMENT = Experiment(" in path.read_text())
PAPER = [name for name in NAMES if name not in ("estimators", "ground_truth", "uncertainty")]
DATA = ["cifar10", "cifar100", "dtd", "oxford_flowers102"]


@pytest.mark.parametrize("name", NAMES)
def test_an_experiment_fills_in_the_skeleton(name):
    module = importlib.import_module(f"experiments.{name}")
    assert isinstance(module.EXPERIMENT, Experiment) and module.EXPERIMENT.name == name
    assert {"tiny", "digits"} <= set(module.PRESETS)
    for preset, config in module.PRESETS.items():
        assert config.preset == preset
        module.EXPERIMENT.check(config)
    commands = re.findall(r"python -m experiments\.(\w+)", module.__doc__)
    assert set(commands) == {name}


def test_all_experiments_are_found():
    assert len(NAMES) == 11 and len(PAPER) == 8


def test_no_experiment_uses_private_names_or_files_of_a_run_directory():
    private = re.compile(r"import (?:.*\W)?_[a-z]|jaxinfl[\w.]*\._[a-z]|zarr|part-\d|rows-|\.npz\"|attributes\[")
    for path in FOLDER.glob("*.py"):
        code = ast.parse(path.read_text())
        for node in ast.walk(code):  # documentation may name a data file
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                node.value.value = ""
        assert not private.search(ast.unparse(code)), path


def test_functions_of_experiments_benchmarks_and_plots_take_few_arguments():
    for folder in (FOLDER, ROOT / "benchmarks", ROOT / "jaxinfl" / "plots"):
        for path in folder.glob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.FunctionDef):
                    assert len(node.args.args) + len(node.args.kwonlyargs) <= 8, f"{path}: {node.name}"


@pytest.mark.parametrize(
    "name", [name if name == "models_needed" else pytest.param(name, marks=pytest.mark.slow) for name in PAPER]
)
def test_a_cost_at_paper_scale_needs_no_data_set(name, tmp_path, monkeypatch, capsys):
    """It is followed up to the jobs whose cost is asked, which compiles networks of the paper's size for minutes."""
    asked = []
    cost = jaxinfl.training_cost(np.ones((1, 40), bool), np.zeros((1, 2), np.uint32), **_small())

    def note(job, run_dir):
        asked.append((job.masks.shape, job.data))
        return dataclasses.replace(cost, num_models=len(job))

    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "none"))
    monkeypatch.setattr(ensembles, "cost_of_job", note)
    monkeypatch.setattr(workforce, "finished_shards", None)
    module = importlib.import_module(f"experiments.{name}")
    config = dataclasses.replace(
        module.PRESETS["paper"], cost=True, out=tmp_path / "out", data_dir=str(tmp_path / "none")
    )
    with pytest.raises(NothingMore):
        module.EXPERIMENT.main(config)
    printed = capsys.readouterr().out
    assert "The data set is not here; its shapes are taken from its publication." in printed and "In all" in printed
    assert asked and all(shape[1] == data.num_train == shapes_of(config.data).num_train for shape, data in asked)
    assert not (tmp_path / "out").exists()


def _small():
    from tests.conftest import make_data

    return {"data": make_data(), "model": "small_mlp", "recipe": jaxinfl.Recipe(epochs=1, batch_size=8)}


@pytest.mark.parametrize("name", DATA)
def test_published_shapes_are_those_of_the_data_set(name):
    """Classes and pixels are compared where TFDS declares them without a download."""
    features = tfds.builder(name, file_format="array_record").info.features
    shapes = shapes_of(name)
    assert shapes.num_classes == features["label"].num_classes
    assert features["image"].shape == (shapes.side, shapes.side, 3)
    data = stand_in(name, shapes)
    assert (data.num_train, data.num_test, data.num_classes) == shapes[:3]
    assert data.image_shape == (shapes.side or 224, shapes.side or 224, 3) and data.name == name
    assert data.train_inputs.strides == (0, 0, 0, 0)  # no memory
    assert stand_in(name, shapes, 16).image_shape == (16, 16, 3)


def test_a_part_of_a_data_set_that_is_not_here(tmp_path, capsys):
    options = Options(data="cifar10", data_dir=str(tmp_path), train_examples=500, test_examples=100, cost=True)
    data, _ = load(options, "x", "paper")
    assert (data.num_train, data.num_test, data.num_classes) == (500, 100, 10)
    assert "not here" in capsys.readouterr().out


@pytest.mark.usefixtures("no_download")
def test_what_is_prepared_is_known_without_a_download(tmp_path):
    assert is_prepared("digits") and is_prepared("nowhere.npz") and is_prepared("./folder")
    assert not is_prepared("jaxinfl_tiny", tmp_path)
    load_dataset("jaxinfl_tiny", tmp_path)
    assert is_prepared("jaxinfl_tiny", tmp_path)
    with pytest.raises(ValueError, match="is not a known data set"):
        is_prepared("cifar1000")


def test_parts_of_models_that_follow_from_others(tmp_path, capsys):
    """Each part trains what it can; what follows from all parts waits for them."""
    config = dataclasses.replace(sweep.PRESETS["tiny"], recipe=jaxinfl.Recipe(epochs=1), out=tmp_path / "out")
    for part in ("1/2", "2/2", "1/2"):
        with pytest.raises(NothingMore):
            sweep.EXPERIMENT.main(dataclasses.replace(config, part=part))
        printed = capsys.readouterr().out
        assert f"Part {part} is trained." in printed
        assert ("not every part is there yet" in printed) == (not (tmp_path / "out" / "chosen").exists())
    sweep.EXPERIMENT.main(config)
    assert read_results(tmp_path / "out")["results"]["test_accuracy"]["n"] == 2


def test_results_are_read_as_they_were_written(tmp_path):
    assert read_results(tmp_path) is None
    write_results(tmp_path, {"value": np.array([1.0, np.nan])})
    assert read_results(tmp_path) == {"value": [1.0, None]}


@pytest.mark.parametrize("name", NAMES)
def test_every_option_has_help(name):
    module = importlib.import_module(f"experiments.{name}")
    source = inspect.getsource(module)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef) and node.name == "Config":
            fields = [k for k, part in enumerate(node.body) if isinstance(part, ast.AnnAssign)]
            for k in fields:
                if "Annotated" in ast.unparse(node.body[k]):  # hidden, or described by `PRESET`
                    continue
                text = node.body[k + 1].value.value
                assert len(text) > 20 and text.endswith("."), (name, text)
                assert not text.startswith(("Of ", "The same", "How many")), (name, text)


@pytest.mark.parametrize("name", NAMES)
def test_data_that_an_experiment_does_not_take_are_refused_in_one_line(name, tmp_path):
    """Numbers as targets, of which no prediction is right, before anything is trained."""
    module = importlib.import_module(f"experiments.{name}")
    config = dataclasses.replace(module.PRESETS["tiny"], data="diabetes", out=tmp_path)
    if name in ("cifar100_subsets", "uncertainty"):
        module.EXPERIMENT.takes(load_dataset("diabetes"))
        return
    with pytest.raises(Mistake, match=r"diabetes has the task 'regression'|diabetes holds no images with class labels"):
        module.EXPERIMENT.main(config)
    assert not list(tmp_path.iterdir())
