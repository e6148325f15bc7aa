"""Files that `write_run` writes are read back as they were, and hold what their consumers take."""

import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

import jaxinfl
from jaxinfl import RunDirectoryError, read_run, write_run
from jaxinfl.published import dattri
from jaxinfl.statistics.means import mean_over_models
from tests import twins
from tests.small_ensembles import LINEAR, keys_of


@pytest.fixture(scope="module")
def runs():
    twin = twins.make_twin()
    scores = (
        {"margin": twin.margin(), "correct": twin.correct()},
        {"margin": twin.margin("test"), "correct": twin.correct("test")},
    )
    return jaxinfl.Ensemble.from_scores(twin.masks, *scores, data=twin.data(jaxinfl))


@pytest.mark.parametrize(
    ("layout", "split", "score"),
    [("feldman_zhang", "both", "correct"), ("datamodels", "test", "margin"), ("lira", "train", "margin")],
)
def test_read_back_equal(runs, tmp_path, layout, split, score):
    write_run(runs, tmp_path / "written", layout)
    again = read_run(tmp_path / "written", layout)
    np.testing.assert_array_equal(again.masks, runs.masks)
    for each in ("train", "test") if split == "both" else (split,):
        ours, theirs = getattr(runs, f"{each}_score")(score), getattr(again, f"{each}_score")(score)
        np.testing.assert_array_equal(theirs, ours)
    if layout == "lira":
        np.testing.assert_array_equal(again.train_labels, runs.train_labels)
    with pytest.raises(RunDirectoryError, match="exists already; write_run makes a new folder"):
        write_run(runs, tmp_path / "written", layout)


@pytest.mark.parametrize(("score", "kind"), [("correct", "0-1"), ("probability", "bounded")])
def test_the_kind_of_a_score_is_read_back(tmp_path, score, kind):
    twin = twins.make_twin()
    values = twin.correct("test") if kind == "0-1" else 1 / (1 + np.exp(-twin.margin("test")))
    runs = jaxinfl.Ensemble.from_scores(twin.masks, test={score: values})
    write_run(runs, tmp_path / "written", "datamodels", score=score)
    again = read_run(tmp_path / "written", "datamodels")
    assert again.score_kind(score) == kind
    np.testing.assert_array_equal(again.test_score(score), runs.test_score(score))


def test_the_order_is_that_of_the_run_that_was_written(runs, tmp_path):
    """What jaxinfl wrote in Feldman and Zhang's form has not the order of TensorFlow Datasets."""
    write_run(runs, tmp_path / "written", "feldman_zhang")
    own = twins.make_twin().data(jaxinfl).with_source(name="cifar-10-binary.tar.gz")
    assert read_run(tmp_path / "written", data=own).order == "that of the data"


def test_cleanlab_takes_classes(tmp_path):
    rng = np.random.default_rng(0)
    inputs, numbers = rng.normal(size=(52, 8, 8, 1)).astype(np.float32), rng.normal(size=52).astype(np.float32)
    data = jaxinfl.Dataset(
        train_inputs=inputs[:40],
        train_targets=numbers[:40],
        test_inputs=inputs[40:],
        test_targets=numbers[40:],
        task="regression",
    )
    masks = jaxinfl.draw_subsets(6, 40, 0.5, 0, design="balanced")
    recipe = jaxinfl.Recipe(epochs=1, batch_size=8)
    runs = jaxinfl.train_ensemble(
        masks, keys_of(6), data=data, model="small_mlp", recipe=recipe, keep_outputs="both", progress=False
    )
    with pytest.raises(ValueError, match="cleanlab takes those of classification"):
        write_run(runs, tmp_path / "few", "cleanlab")


def test_diverged_models_are_left_out(tmp_path):
    twin = twins.make_twin()
    margin = twin.margin("test")
    margin[3] = np.nan
    with pytest.warns(RuntimeWarning, match="1 of 12 models diverged"):
        runs = jaxinfl.Ensemble.from_scores(twin.masks, test={"margin": margin})
    write_run(runs.with_diverged(), tmp_path / "written", "datamodels")
    np.testing.assert_array_equal(np.load(tmp_path / "written" / "masks.npy"), np.delete(twin.masks, 3, axis=0))


def tiny_images():
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (52, 8, 8, 1), np.uint8), np.arange(52) % 3
    return jaxinfl.Dataset(
        train_inputs=images[:40], train_targets=labels[:40], test_inputs=images[40:], test_targets=labels[40:]
    )


def test_cleanlab_gets_probabilities_out_of_sample(tmp_path):
    data = tiny_images()
    masks = jaxinfl.draw_subsets(6, 40, 0.5, 0, design="balanced")
    options = {"model": LINEAR, "recipe": jaxinfl.Recipe(epochs=1, batch_size=8), "progress": False}
    runs = jaxinfl.train_ensemble(masks, keys_of(6), data=data, keep_outputs="both", **options)
    write_run(runs, tmp_path / "cleanlab", "cleanlab")
    likely, labels = np.load(tmp_path / "cleanlab" / "pred_probs.npy"), np.load(tmp_path / "cleanlab" / "labels.npy")
    np.testing.assert_array_equal(labels, data.train_targets)
    np.testing.assert_allclose(likely.sum(axis=1), 1)
    # cleanlab's self-confidence is the probability of the given label.
    own = likely[np.arange(40), labels]
    expected = mean_over_models(runs.train_probability, ~runs.masks)
    np.testing.assert_allclose(own, expected, atol=2e-3)
    with pytest.raises(ValueError, match="are in every subset"):
        write_run(runs[:1], tmp_path / "few", "cleanlab")
    assert not (tmp_path / "few").exists()
    bare = jaxinfl.train_ensemble(masks, keys_of(6), data=data, **options)
    with pytest.raises(RunDirectoryError, match=r"keep_outputs='both'"):
        write_run(bare, tmp_path / "few", "cleanlab")


@pytest.fixture
def torch(monkeypatch):
    """A module that saves and loads as PyTorch does, where PyTorch is not installed."""

    class Tensor:
        def __init__(self, values):
            self.values, self.dtype = values, values.dtype

        def detach(self):
            return self

        def numpy(self):
            return self.values

    def load(path, *, weights_only, map_location):
        assert weights_only is True and map_location == "cpu"
        with open(path, "rb") as file:
            return Tensor(np.load(file, allow_pickle=False))

    def save(tensor, path):
        with open(path, "wb") as file:
            np.save(file, tensor.values)

    module = types.SimpleNamespace(Tensor=Tensor, load=load, save=save, from_numpy=Tensor, bfloat16="bfloat16")
    monkeypatch.setattr(dattri, "_torch", lambda path: module)
    return module


def test_dattri(runs, tmp_path, torch):
    write_run(runs, tmp_path / "dattri", "dattri")
    again = read_run(tmp_path / "dattri", num_train=30)
    np.testing.assert_array_equal(again.masks, runs.masks)
    np.testing.assert_array_equal(again.test_score("margin"), runs.test_score("margin"))
    (tmp_path / "dattri" / "jaxinfl.json").unlink()
    assert read_run(tmp_path / "dattri", data=twins.make_twin().data(jaxinfl)).scores == ("target_value",)
    with pytest.raises(RunDirectoryError, match="Give num_train, or data"):
        read_run(tmp_path / "dattri")
    with pytest.raises(RunDirectoryError, match="has 40 training examples, and arrays 30"):
        read_run(tmp_path / "dattri", data=twins.make_twin().data(jaxinfl), num_train=40)
    with pytest.raises(ValueError, match="num_train is 0"):
        read_run(tmp_path / "dattri", num_train=0)
    with pytest.raises(RunDirectoryError, match="it takes indices from 0 to 9 of 10 training examples"):
        read_run(tmp_path / "dattri", num_train=10)
    unequal = jaxinfl.Ensemble.from_scores(np.tri(4, 5, dtype=bool), test={"margin": np.zeros((4, 2))})
    with pytest.raises(ValueError, match="takes subsets of one size"):
        write_run(unequal, tmp_path / "unequal", "dattri")


def test_an_example_twice_in_a_subset_is_told():
    with pytest.raises(RunDirectoryError, match="holds an example twice in subset 1"):
        dattri.masks_of_indices(np.array([[0, 1], [2, 2]]), 3, "indices")


def test_without_pytorch_the_error_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(dattri, "find_spec", lambda name: None)
    (tmp_path / dattri.INDICES).write_bytes(b"")
    (tmp_path / dattri.VALUES).write_bytes(b"")
    with pytest.raises(RunDirectoryError, match=r"which is not installed. Run `pip install torch`"):
        read_run(tmp_path, num_train=3)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"layout": "bergson"}, ValueError, "layout is 'bergson'; it takes"),
        ({"layout": "lira", "score": "loss"}, ValueError, "score is 'loss'; this ensemble has"),
        ({"layout": "cleanlab", "score": "margin"}, ValueError, "takes outputs alone"),
        ({"layout": "lira", "path": "s3://bucket"}, ValueError, "mounted here"),
    ],
)
def test_mistakes_are_told(runs, tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        write_run(runs, **({"path": tmp_path / "written"} | options))
    assert not list(tmp_path.iterdir())


SCRIPT = """
import sys
import numpy as np
import jaxinfl
models, train, test = {models}, 50_000, 8
masks = np.lib.format.open_memmap("train_masks_50pct.npy", "w+", np.bool_, (models, train))
margins = np.lib.format.open_memmap("test_margins_50pct.npy", "w+", np.float16, (models, test))
train_margins = np.lib.format.open_memmap("train_margins_50pct.npy", "w+", np.float16, (models, train))
rng = np.random.default_rng(0)
for start in range(0, models, 250):
    some = slice(start, start + 250)
    masks[some] = rng.integers(0, 2, (250, train), np.uint8)
    margins[some] = rng.normal(size=(250, test)) + masks[some, :test]
    train_margins[some, :64] = rng.normal(size=(250, 64)) + masks[some, :64]
    for array in (masks, margins, train_margins):
        array.flush()
        jaxinfl.arguments.release(array)
del masks, margins, train_margins
runs = jaxinfl.read_run(".", "datamodels")
def used():
    # What getrusage says begins with the memory of the process that started this one.
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1e6
print(used())
found = jaxinfl.influence(runs, "top_margin")
print(used())
own = jaxinfl.memorization(runs, "top_margin")
jaxinfl.memorization(runs, "correct")
jaxinfl.influence(runs[np.arange(models) != 7], "correct")
assert found.shape == (train, test) and abs(found[np.arange(test), np.arange(test)].mean() - 1) < 0.1, found
assert abs(own[:64].mean() - 1) < 0.1 and np.abs(own[64:]).max() == 0
few = [3, models - 1, models // 2]
assert runs[few].masks.shape == (3, train)
print(used())
"""


def run_script(folder, models):
    command = [sys.executable, "-c", SCRIPT.format(models=models)]
    done = subprocess.run(command, check=False, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return float(done.stdout.split()[-1])


@pytest.mark.slow
@pytest.mark.skipif(
    not Path("/proc/self/status").is_file(), reason="only Linux tells the most memory of a process alone"
)
def test_models_that_do_not_fit_in_memory(tmp_path):
    """10,000 models x 50,000 are 0.5 GB of masks and 1 GB of margins."""
    assert run_script(tmp_path, 10_000) < 1.0
