"""What a run keeps besides its final scores: outputs, and scores after earlier epochs."""

import dataclasses
import logging

import numpy as np
import pytest
from scipy.special import logsumexp

import jaxinfl
from jaxinfl import Dataset, Ensemble, RunDirectoryError
from jaxinfl.training.job import Job
from jaxinfl.training.loop import ShardTraining
from jaxinfl.verify import Options, main, repair
from tests.kinds_of_data import KINDS, TRAIN, linear
from tests.test_any_data import KEYS, MASKS, train

BOTH = {"keep_outputs": "both", "keep_epochs": (1, 2)}


@pytest.fixture(
    scope="module",
    params=[name if name in ("dict", "tokens") else pytest.param(name, marks=pytest.mark.slow) for name in KINDS],
)
def trained(request):
    kind = KINDS[request.param]
    return kind, train(kind, **BOTH)


def test_what_is_kept_changes_nothing_else(trained):
    kind, runs = trained
    plain = train(kind)
    assert runs.scores[: len(plain.scores)] == plain.scores and plain.epochs == ()
    for name in plain.scores:
        np.testing.assert_array_equal(runs.test_score(name), plain.test_score(name))
        np.testing.assert_array_equal(runs.train_score(name), plain.train_score(name))


def test_scores_after_an_epoch_are_those_of_a_run_that_ends_there(trained):
    kind, runs = trained
    assert runs.epochs == (1, 2)
    recipe = dataclasses.replace(kind.recipe, epochs=1)
    if recipe.schedule != "constant":
        recipe = dataclasses.replace(recipe, schedule="constant")
        kind = kind._replace(recipe=dataclasses.replace(kind.recipe, schedule="constant"))
        runs = train(kind, **BOTH)
    short = train(kind, recipe=recipe)
    for name in short.scores:
        for split in ("train_score", "test_score"):
            early = getattr(runs, split)(name, epoch=1)
            np.testing.assert_array_equal(early, getattr(short, split)(name))
            np.testing.assert_array_equal(getattr(runs, split)(f"{name}@1"), early)
            np.testing.assert_array_equal(getattr(runs, split)(name, epoch=2), getattr(runs, split)(name))
    assert (runs.test_score(kind.score, epoch=1) != runs.test_score(kind.score)).any()
    np.testing.assert_array_equal(
        jaxinfl.influence(runs, f"{kind.score}@1"), jaxinfl.influence(runs.masks, runs.test_score(kind.score, epoch=1))
    )


def test_an_epoch_that_is_the_last_is_not_evaluated_twice(monkeypatch):
    kind, calls = KINDS["table"], []

    def counting(self, *arguments, init=ShardTraining.__init__):
        init(self, *arguments)
        evaluate = self._programs.evaluate
        self._programs = dataclasses.replace(self._programs, evaluate=lambda *a: calls.append(a) or evaluate(*a))

    monkeypatch.setattr(ShardTraining, "__init__", counting)
    for epochs, expected in (((), 1), ((2,), 1), ((1,), 2), ((1, 2), 2)):
        calls.clear()
        train(kind, keep_epochs=epochs)
        assert len(calls) == expected
        assert Job.make(MASKS, KEYS, kind.data, kind.model, kind.recipe, keep_epochs=epochs).evaluations == expected


def test_outputs_give_the_scores(trained):
    """They agree within what float16 holds: a relative error of 2^-11 in each output."""
    kind, runs = trained
    assert runs.test_outputs.dtype == np.float16 and runs.test_outputs.shape[:2] == runs.test_score("loss").shape
    assert runs.train_outputs.shape[:2] == (len(runs), TRAIN)
    task = kind.data.task
    for split in ("train", "test"):
        outputs, targets = getattr(runs, f"{split}_outputs"), getattr(kind.data, f"{split}_targets")
        again = np.stack([np.asarray(task.scores[kind.score](each.astype(np.float32), targets)) for each in outputs])
        size = float(np.abs(outputs).max()) * outputs.shape[-1]
        np.testing.assert_allclose(again, getattr(runs, f"{split}_score")(kind.score), atol=4 * size * 2**-11)


def test_margins_of_classes_from_kept_logits():
    kind = KINDS["table"]
    runs = train(kind, keep_outputs="test")
    logits, labels = runs.test_outputs.astype(np.float64), kind.data.test_targets
    own = np.take_along_axis(logits, np.broadcast_to(labels[None, :, None], (*logits.shape[:2], 1)), 2)[..., 0]
    others = np.where(np.arange(logits.shape[-1]) == labels[:, None], -np.inf, logits)
    np.testing.assert_allclose(
        own - logsumexp(others, axis=-1), runs.test_margin, atol=4 * np.abs(logits).max() * 2**-11
    )
    with pytest.raises(
        RunDirectoryError, match=r"keeps no outputs of the train examples\. Train it with keep_outputs='both'"
    ):
        _ = runs.train_outputs


def test_on_disk_in_parts_extended_saved_and_repaired(tmp_path, capsys):
    kind = KINDS["own task"]
    data = jaxinfl.load_dataset("iris")
    kind = kind._replace(data=data, model="small_mlp", score="margin")
    masks = jaxinfl.draw_subsets(4, data.num_train, seed=0)

    def run(rows=slice(None), **options):
        options = {"data": data, "model": kind.model, "recipe": kind.recipe, "progress": False, "tune": False} | options
        return jaxinfl.train_ensemble(masks[rows], KEYS[rows], **options)

    def assert_same(one, other):
        assert one.scores == other.scores
        for name in other.scores:
            np.testing.assert_array_equal(one.test_score(name), other.test_score(name))
        np.testing.assert_array_equal(one.train_outputs, other.train_outputs)

    whole = run(**BOTH)
    for part in ((1, 2), (2, 2)):
        run(run_dir=tmp_path / "parts", part=part, **BOTH)
    assert_same(Ensemble.open(tmp_path / "parts"), whole)
    run(slice(0, 2), run_dir=tmp_path / "run", **BOTH)
    # A run goes on as it was started, whether it is asked to or not.
    assert_same(run(run_dir=tmp_path / "run"), whole)
    whole.save(tmp_path / "saved")
    assert_same(Ensemble.open(tmp_path / "saved"), whole)
    chunk = tmp_path / "run" / "test_margin@1" / "c" / "0" / "0"
    chunk.write_bytes(b"nothing")
    assert main([str(tmp_path / "run")]) == 1
    assert "test_margin@1" in capsys.readouterr().out
    repair(Options(tmp_path / "run"))
    assert_same(Ensemble.open(tmp_path / "run"), whole)
    for more, message in (
        ({"keep_epochs": (1, 2, 3)}, "keep_epochs is 3; it takes a whole number of epochs from 1 to 2"),
        ({"keep_weights": True}, "keeps no weights, because it was started without keep_weights=True"),
    ):
        with pytest.raises((RunDirectoryError, ValueError), match=message):
            run(run_dir=tmp_path / "run", **more)
    run(run_dir=tmp_path / "plain")
    for more, message in (
        ({"keep_epochs": (2,)}, r"keeps no scores after epoch 2, because it was started without keep_epochs=\(2,\)"),
        ({"keep_outputs": "test"}, "keeps no outputs, because"),
    ):
        with pytest.raises(RunDirectoryError, match=message):
            run(run_dir=tmp_path / "plain", **more)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"keep_outputs": True}, TypeError, "keep_outputs is True"),
        ({"keep_outputs": "train"}, ValueError, "keep_outputs is 'train'; it takes"),
        (
            {"keep_epochs": 2},
            TypeError,
            r"keep_epochs is 2 \(int\); it takes numbers of epochs from 1 to the recipe's 2",
        ),
        ({"keep_epochs": (0,)}, ValueError, "keep_epochs is 0"),
        ({"keep_epochs": (3,)}, ValueError, "keep_epochs is 3"),
        ({"keep_epochs": (1, 1)}, ValueError, "it takes different numbers of epochs"),
        ({"keep_epochs": (1.0,)}, TypeError, "keep_epochs is 1.0"),
        ({"keep_epochs": (True,)}, TypeError, "keep_epochs is True"),
        ({"keep_epochs": "12"}, TypeError, "keep_epochs is '12'"),
    ],
)
def test_refusals(options, error, message):
    with pytest.raises(error, match=message):
        train(KINDS["table"], **options)
    with pytest.raises(error, match=message):
        jaxinfl.training_cost(
            MASKS, KEYS, data=KINDS["table"].data, model="small_mlp", recipe=KINDS["table"].recipe, **options
        )


def test_names_that_scores_cannot_have():
    loss = lambda outputs, targets: outputs[:, 0]
    for name in ("outputs", "targets", "margin@5", "class"):
        with pytest.raises(ValueError, match=f"scores names a score {name!r}; it takes identifiers"):
            jaxinfl.Task("mine", loss=loss, scores={name: loss})
    with pytest.raises(ValueError, match="names that differ by more than case"):
        jaxinfl.Task("mine", loss=loss, scores={"a": loss, "A": loss})
    with pytest.raises(ValueError, match="another function as 'loss'"):
        jaxinfl.Task("mine", loss=loss, scores={"loss": lambda outputs, targets: targets})


def test_epochs_that_are_not_kept():
    runs = train(KINDS["table"])
    with pytest.raises(ValueError, match=r"epoch is 1; this ensemble keeps the scores after these epochs: none"):
        runs.test_score("margin", epoch=1)
    with pytest.raises(ValueError, match="score is 'margin@1'; this ensemble has 'correct', 'margin'"):
        runs.test_score("margin@1")


def test_large_outputs_are_kept_as_infinity_with_a_warning(caplog):
    kind = KINDS["regression"]
    targets = kind.data.train_targets
    large = Dataset(
        train_inputs=kind.data.train_inputs,
        train_targets=np.full_like(targets, 2e6),
        test_inputs=kind.data.test_inputs,
        test_targets=np.full_like(kind.data.test_targets, 2e6),
        task="regression",
    )
    recipe = dataclasses.replace(kind.recipe, learning_rate=0.1, momentum=0.0, weight_decay=0.0)
    with caplog.at_level(logging.WARNING, logger="jaxinfl"):
        runs = train(kind._replace(recipe=recipe), large, model=linear, keep_outputs="test")
    assert np.isfinite(runs.test_score("prediction")).all() and np.isposinf(runs.test_outputs).any()
    assert "some outputs in test_outputs are beyond 65,504" in caplog.text


def test_the_cost_counts_what_is_kept():
    kind = KINDS["table"]
    ask = {"data": kind.data, "model": kind.model, "recipe": kind.recipe}
    plain = jaxinfl.training_cost(MASKS, KEYS, **ask)
    more = jaxinfl.training_cost(MASKS, KEYS, **ask, keep_outputs="test", keep_epochs=(1,))
    examples = kind.data.num_train + kind.data.num_test
    assert more.disk_bytes - plain.disk_bytes == len(MASKS) * (6 * examples + 2 * 3 * kind.data.num_test)
    assert more.flops_per_model > plain.flops_per_model
    with pytest.raises(
        TypeError, match="training_cost got 'keep_logits', which it does not take; it takes keep_weights"
    ):
        jaxinfl.training_cost(MASKS, KEYS, **ask, keep_logits=True)
