"""The command `jaxinfl`: every sub-command on every stored run, its text, its JSON document and its exit status."""

import csv
import json
import re
import shutil
import subprocess
import sys
import tomllib
import warnings
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

import jaxinfl
from jaxinfl import Ensemble, provenance
from jaxinfl.cli import execute as execution
from jaxinfl.cli import train as training
from jaxinfl.training import recall_data
from jaxinfl.training.interrupts import Interrupted
from jaxinfl_command import COMMANDS, main
from tests.stored_runs import NAMES, STORED
from tests.twins import make_twin, write_feldman_zhang

ROOT = Path(__file__).parent.parent
TRAIN = ["--models", "6", "--recipe.epochs", "2", "--recipe.batch-size", "8"]

pytestmark = pytest.mark.filterwarnings("ignore:.* diverged and are left out:RuntimeWarning")


@pytest.fixture
def call(capsys):
    """Call the command line; returns its status, standard output and standard error."""

    def run(*arguments):
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as end:
            status = end.code
        told = capsys.readouterr()
        return status, told.out, told.err

    return run


@pytest.fixture(scope="module")
def toy_file(toy, tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "toy.npz"
    np.savez(path, x_train=toy.train_inputs, y_train=toy.train_targets, x_test=toy.test_inputs, y_test=toy.test_targets)
    return path


# --- help, completion, version, mistakes -----------------------------------------------------------------------------


CHILD = """
import sys
from jaxinfl_command import main
try:
    main({arguments})
except SystemExit as end:
    assert end.code in (0, None, 2), end.code
slow = {{"jax", "jaxinfl", "numpy", "matplotlib"}} & set(sys.modules)
assert not slow, slow
"""


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], [], ["trian"]])
def test_help_imports_no_jax(arguments):
    subprocess.run([sys.executable, "-c", CHILD.format(arguments=arguments)], check=True, cwd=ROOT, capture_output=True)


def test_help_names_every_command_and_the_exit_statuses(call):
    status, out, _ = call("--help")
    assert status == 0 and all(f"• {name}" in out for name in COMMANDS)
    assert "exit status is 0" in out and "--tyro-print-completion" in out


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_has_an_example_and_sentences(call, name):
    status, out, _ = call(name, "--help")
    assert status == 0 and "For example:" in out and f"    jaxinfl {name} " in out
    assert "--json" in out and "--no-json" not in out
    assert COMMANDS[name].endswith(".") and COMMANDS[name][0].isupper()


def test_the_page_on_the_command_line_lists_every_command():
    page = (ROOT / "docs" / "command_line.md").read_text()
    assert set(re.findall(r"^\| `([a-z]+) ", page, re.MULTILINE)) == set(COMMANDS)


def test_completion_has_the_options_of_every_command(call):
    status, out, _ = call("--tyro-print-completion", "bash")
    assert not status and all(f"jaxinfl {name}" in out or name in out for name in COMMANDS)
    for option in ("--recipe.epochs", "--fdr", "--target-iou", "--layout", "--repair"):
        assert option in out, option


def test_the_version_is_the_package_s(call):
    assert call("--version") == (0, f"jaxinfl {metadata.version('jaxinfl')}\n", "")


def test_the_entry_point_is_the_function():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"jaxinfl": f"{main.__module__}:{main.__name__}"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["influence", "nowhere"], "nowhere"),
        (["influence", "https://x.org/run"], "no address that begins with https:"),
        (["pairs", STORED / "regression", "--score", "margin"], "this run has the scores loss, prediction, residual"),
        (["pairs", STORED / "regression", "--number", "0"], "--number is 0"),
        (["pairs", STORED / "regression", "--fdr", "2"], "fdr is 2"),
        (["pairs", STORED / "regression", "--out", "pairs.txt"], "ends in .csv"),
        (["influence", STORED / "regression", "--out", "no/folder/i.npz"], "Make it first"),
        (["plan", STORED / "own_task"], "Pass --score near"),
        (["plan", STORED / "regression"], "This run has none"),
        (["membership", STORED / "next_token"], "it has accuracy, loss. Pass one of them by --score"),
        (["verify", "nowhere"], "nowhere"),
        (["read", "nowhere"], "nowhere; read_run takes"),
        (["read", STORED / "regression", "--epoch", "3"], "--epoch is given"),
        (["read", STORED / "regression", "--out", STORED / "binary"], "exists already"),
        (["train", "nothing_of_this_name.npz", "--out", "a"], "nothing_of_this_name.npz"),
        (["train", "digits", "--out", "a", "--part", "5/4"], "--part is '5/4'"),
        (["train", "digits", "--out", "a", "--models", "2", "--part", "1/2", "--cluster", "local"], "Leave one out"),
        (["train", "digits", "--out", "a", "--seed", "-1"], "--seed is -1"),
        (["train", "digits", "--out", "a", "--models", "0"], "num_models is 0"),
        (["train", "digits", "--out", "a", "--model", "no_such"], "no_such"),
        (["train", "digits", "--out", "a", "--train-examples", "0"], "--train-examples is 0"),
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_what_the_user_can_mend_is_one_line(call, arguments, message, as_json, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, err = call(*arguments, *(["--json"] if as_json else []))
    assert (status, out) == (2, "") and message in err
    assert err.startswith("error: ") and err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["train", "digits"], ["pairs"], ["trian"], ["pairs", "a", "--fdr", "much"]])
def test_unknown_options_end_with_2(call, arguments):
    status, out, _ = call(*arguments)
    assert status == 2 and "Traceback" not in out


@pytest.mark.parametrize("option", ["--recipe.batch-size=0", "--cluster.time=4x"])
def test_a_group_of_options_is_named_as_on_the_command_line(call, option):
    status, out, err = call("train", "digits", "--out", "a", option)
    told = " ".join((out + err).split())
    assert status == 2 and f"Error parsing {option[2:].partition('.')[0]}: " in told and "jaxinfl train --help" in told


@pytest.mark.parametrize("error", [KeyboardInterrupt, Interrupted])
def test_an_interrupt_ends_with_130(call, monkeypatch, error):
    def interrupted(_):
        raise error

    monkeypatch.setattr("jaxinfl.cli.read.run", interrupted)
    status, out, err = call("read", STORED / "binary")
    # Where the training was interrupted, it has said how to go on.
    assert (status, out) == (130, "") and ("To go on: " in err) == (error is KeyboardInterrupt)


def test_mistakes_of_the_program_are_not_hidden(monkeypatch):
    monkeypatch.setattr("jaxinfl.cli.read.run", lambda _: {}["missing"])
    with pytest.raises(KeyError):
        main(["read", str(STORED / "binary")])


def test_warnings_take_one_line(call):
    warnings.simplefilter("always")  # pytest restores the filters after each test
    _, out, err = call("read", STORED / "classification_table", "--json")
    assert json.loads(out)["diverged"] == 1
    assert re.fullmatch(r"warning: 1 of 6 models diverged and are left out of the ensemble in .*\n", err)


# --- every command on every stored run -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "train"])
def test_every_command_on_every_run(call, command, name, tmp_path, monkeypatch):
    """It is done, or says in one line why it cannot be; and both forms of the answer are there."""
    monkeypatch.chdir(tmp_path)  # a command may write into the current folder
    status, out, err = call(command, STORED / name)
    if status:
        assert status == 2 and err.startswith("error: ") and err.count("\n") == 1 and not out
        # Only these commands take what some tasks do not have.
        assert command in ("plan", "membership") or name == "from_scores_of_train"
        return
    assert out.strip() and "Traceback" not in err
    status, out, _ = call(command, STORED / name, "--json")
    assert status == 0 and isinstance(json.loads(out), dict) and "NaN" not in out


def test_explore_writes_one_page_and_opens_it_where_asked(call, tmp_path, monkeypatch):
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address) or False)
    out = tmp_path / "page.html"
    status, text, _ = call("explore", STORED / "classification_images", "--out", out, "--json")
    answer = json.loads(text)
    assert status == 0 and answer["file"] == str(out) and answer["bytes"] == out.stat().st_size and not opened
    status, text, _ = call("explore", STORED / "classification_images", "--out", out, "--open")
    assert status == 0 and opened == [out.as_uri()] and "No browser could be started here" in text
    status, _, err = call("explore", tmp_path / "nowhere")
    assert status == 2 and err.startswith("error: ") and err.count("\n") == 1


def test_influence_writes_what_the_function_gives(call, tmp_path):
    run, out = STORED / "classification_images", tmp_path / "influence.npz"
    status, text, _ = call("influence", run, "--out", out, "--json")
    runs, found, answer = Ensemble.open(run), np.load(out), json.loads(text)
    np.testing.assert_array_equal(found["influence"], jaxinfl.influence(runs, "correct"))
    np.testing.assert_array_equal(found["memorization"], jaxinfl.memorization(runs, "correct"))
    assert status == 0 and answer["out"] == str(out) and answer["score"] == "correct"
    assert answer["quantiles"]["influence"]["1.0"] == pytest.approx(float(np.nanmax(found["influence"])))
    call("influence", run, "--out", out, "--score", "margin", "--method", "difference")
    expected = jaxinfl.estimate(runs, "margin", "difference")
    np.testing.assert_array_equal(np.load(out)["influence"], expected.influence)
    np.testing.assert_array_equal(np.load(out)["standard_error"], expected.standard_error)
    assert [path.name for path in tmp_path.iterdir()] == ["influence.npz"]


def test_a_positive_influence_helps_also_where_the_score_is_a_loss(call, tmp_path):
    call("influence", STORED / "regression", "--out", tmp_path / "i.npz")
    runs, found = Ensemble.open(STORED / "regression"), np.load(tmp_path / "i.npz")
    np.testing.assert_allclose(found["influence"], -jaxinfl.influence(runs, "loss"), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found["memorization"], -jaxinfl.memorization(runs, "loss"), rtol=1e-5, atol=1e-5)
    assert "the negative of loss" in call("influence", STORED / "regression")[1]


def test_pairs_are_those_of_the_functions(call, tmp_path):
    run, out = STORED / "classification_images", tmp_path / "pairs.csv"
    answer = json.loads(call("pairs", run, "--number", "5", "--out", out, "--json")[1])
    runs = Ensemble.open(run)
    top = jaxinfl.top_pairs(runs, "correct", k=5)
    assert [(pair["train"], pair["test"]) for pair in answer["pairs"]] == list(
        zip(top.train_index.tolist(), top.test_index.tolist(), strict=True)
    )
    spread = jaxinfl.pair_uncertainty(runs, "correct", top.train_index, top.test_index)
    np.testing.assert_allclose([pair["low"] for pair in answer["pairs"]], spread.low)
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert [float(row["influence"]) for row in rows] == top.influence.tolist()
    assert [int(row["train_target"]) for row in rows] == runs.train_targets[top.train_index].tolist()
    found = jaxinfl.discoveries(runs, "correct", fdr=0.9)
    assert json.loads(call("pairs", run, "--fdr", "0.9", "--json")[1])["found"] == len(found)


def test_pairs_have_the_names_of_classes(call, toy, tmp_path):
    names = ("cat", "dog", "a word of more than twelve letters")
    fields = {field: getattr(toy, field) for field in ("train_inputs", "train_targets", "test_inputs", "test_targets")}
    masks, noise = jaxinfl.draw_subsets(60, 40, seed=0), np.random.default_rng(0).normal(size=(60, 52)) / 4
    scores = {"train": {"bleu": masks + noise[:, :40]}, "test": {"bleu": masks[:, :12] + noise[:, 40:]}}
    runs = Ensemble.from_scores(masks, **scores, data=jaxinfl.Dataset(**fields, class_names=names))
    runs.save(tmp_path / "run")
    assert Ensemble.open(tmp_path / "run").class_names == names
    pairs = json.loads(call("pairs", tmp_path / "run", "--json")[1])["pairs"]
    for pair in pairs:
        for split in ("train", "test"):
            assert pair[f"{split}_class"] == names[pair[f"{split}_target"]]
    text = call("pairs", tmp_path / "run", "--fdr", "0.05")[1]
    assert "train class" in text and "target of train" not in text and "cat" in text and "a word of m…" in text
    assert Ensemble.open(STORED / "classification_images").class_names == ("0", "1", "2")
    assert Ensemble.open(STORED / "regression").class_names == ()


def test_membership_writes_what_the_function_gives(call, tmp_path):
    run, out = STORED / "classification_images", tmp_path / "m.npz"
    answer = json.loads(call("membership", run, "--method", "rmia", "--out", out, "--json")[1])
    expected = jaxinfl.membership(Ensemble.open(run), method="rmia")
    np.testing.assert_array_equal(np.load(out)["score"], expected.score)
    assert answer["rates"]["AUC"]["value"] == pytest.approx(expected.auc.value)
    assert answer["score"] == "probability"


def test_plan_has_the_answer_in_words_and_numbers(call):
    answer = json.loads(call("plan", STORED / "classification_images", "--json")[1])
    assert answer["verdict"] == "small pilot" and "50 or more" in answer["answer"] and answer["models_needed"] is None


def test_verify_finds_and_repairs(call, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(STORED / "from_scores", copy)
    (copy / "notes.txt").write_text("mine")
    status, out, _ = call("verify", copy, "--json")
    assert status == 1 and [each["file"] for each in json.loads(out)["files"]] == [str(copy / "notes.txt")]
    assert call("verify", copy, "--repair")[0] == 0 and call("verify", copy)[0] == 0


def test_read_makes_a_run_directory_of_published_files(call, tmp_path, caplog):
    twin = make_twin()
    write_feldman_zhang(twin, tmp_path / "0.7")
    status, out, _ = call("read", tmp_path / "0.7", "--out", tmp_path / "run", "--json")
    answer = json.loads(out)
    # Outside of the tests Python prints this on standard error.
    assert status == 0 and answer["layout"] == "feldman_zhang" and "is read as the layout" in caplog.text
    assert call("verify", tmp_path / "run")[0] == 0
    np.testing.assert_array_equal(Ensemble.open(tmp_path / "run").masks, twin.masks)


# --- training --------------------------------------------------------------------------------------------------------


def test_train_goes_on_and_adds_models(call, toy_file, tmp_path):
    run = tmp_path / "runs" / "a"
    status, out, err = call("train", toy_file, "--out", run, *TRAIN, "--json")
    answer = json.loads(out)
    assert status == 0 and (answer["models"], answer["complete"]) == (6, True) and "models     6 x small_mlp" in err
    first = Ensemble.open(run)
    assert answer["mean_test_score"] == pytest.approx(first.test_correct.mean())
    np.testing.assert_array_equal(first.masks, jaxinfl.draw_subsets(6, first.masks.shape[1], 0.7, 0))
    status, out, _ = call("train", toy_file, "--out", run, *TRAIN, "--models", "8")
    both = Ensemble.open(run)
    assert status == 0 and len(both) == 8 and f"jaxinfl pairs {run}" in out
    np.testing.assert_array_equal(both.test_margin[:6], first.test_margin)
    status, _, err = call("train", toy_file, "--out", run, *TRAIN, "--models", "8", "--recipe.epochs", "3")
    assert status == 2 and "recipe" in err


def test_train_in_parts_and_cost(call, toy_file, tmp_path):
    run = tmp_path / "a"
    status, out, _ = call("train", toy_file, "--out", run, *TRAIN, "--cost", "--json")
    assert status == 0 and json.loads(out)["num_params"] > 0 and not run.exists()
    status, out, _ = call("train", toy_file, "--out", run, *TRAIN, "--part", "1/2")
    assert status == 0 and "not complete" in out
    assert call("train", toy_file, "--out", run, *TRAIN, "--part", "2/2")[0] == 0
    assert len(Ensemble.open(run)) == 6


def test_floats_are_scaled_unless_it_is_refused(monkeypatch, call):
    """A table's floats and regression's targets are scaled, as in the experiments."""
    asked = []
    monkeypatch.setattr(training, "training_cost", lambda **arguments: asked.append(arguments["recipe"]) or 1 / 0)
    for options in ([], ["--no-standardize"]):
        with pytest.raises(ZeroDivisionError):
            call("train", "breast_cancer", "--out", "a", "--models", "2", "--cost", *options)
    assert [recipe.standardize for recipe in asked] == [True, False]


def test_a_run_records_the_command_as_it_was_typed(monkeypatch):
    monkeypatch.setattr(
        sys, "orig_argv", ["/venv/bin/python", "/venv/bin/jaxinfl", "train", "my data.npz", "--out", "a"]
    )
    assert provenance.command() == "jaxinfl train 'my data.npz' --out a"
    monkeypatch.setattr(sys, "orig_argv", ["/venv/bin/python", "-m", "jaxinfl.verify", "a"])
    assert provenance.command().endswith(" -m jaxinfl.verify a")
    monkeypatch.setattr(sys, "orig_argv", ["/venv/bin/python", "-m", "ipykernel_launcher", "-f", "/run/kernel-1.json"])
    assert provenance.command() == "a cell of a notebook"


def test_exit_statuses_are_the_documented_ones():
    assert (execution.MENDABLE, execution.INTERRUPTED) == (2, 130)


def test_a_pair_of_csv_files_with_columns_that_are_named(call, tmp_path):
    """What messages about columns advise can be said on the command line, too; the run finds its data again."""
    for name, rows in (("train.csv", 20), ("test.csv", 10)):
        lines = [f"{row / 20},{('Ulm', 'Bern')[row % 2]},{row % 3},{row % 2}" for row in range(rows)]
        (tmp_path / name).write_text("\n".join(["age,town,number,target", *lines]) + "\n")
    data = f"{tmp_path / 'train.csv'},{tmp_path / 'test.csv'}"
    out = tmp_path / "run"
    options = ("--inputs", "age", "town", "--categories", "town", "--models", "4", "--recipe.epochs", "1", "--out", out)
    status, _, err = call("train", data, "--model", "mlp", *options)
    assert status == 0, err
    recalled = recall_data(Ensemble.open(out).attributes)
    assert set(recalled.train_inputs) == {"numbers", "town"} and list(recalled.categories) == ["town"]
