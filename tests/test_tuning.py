"""Choosing how to run the steps: the search, what is remembered, what happens where memory runs out."""

import json
import math
from functools import partial

import jax
import numpy as np
import pytest

from benchmarks.cards import CARDS
from benchmarks.gpu_compile import CASES
from benchmarks.gpu_program import read_records
from jaxinfl import Recipe, native, train_ensemble
from jaxinfl.models import build_model
from jaxinfl.models.way import Way
from jaxinfl.training import Job, cost, loop, tuning
from jaxinfl.training.machine import OutOfMemory, choose_execution
from jaxinfl.training.programs import Execution
from jaxinfl.training.tuning import Freedom, Search, SearchRecord, by_formula, next_neighbour
from tests.small_ensembles import LINEAR

OWN = Execution("cpu", num_devices=2, lanes=1, width=32, kernels="gemm")
CARD = Execution("gpu", num_devices=1, lanes=1, width=1, kernels="xla")
ALL = Freedom(width=True, kernels=True, devices=False, most=10_000)
WIDTHS = [2**power for power in range(8)]
RECIPE = Recipe(epochs=1, batch_size=8)
pytestmark = pytest.mark.usefixtures("compiled_quickly")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A home of its own for what is remembered."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "jaxinfl" / "tuned"


def search(cost, freedom=ALL, own=OWN, budget=1e9):
    """The search on a machine on which a step costs what `cost` says."""
    found = Search({own: cost(own)})
    found.go_on(partial(next_neighbour, freedom), cost, budget, expected=0.0)
    return found


def search_card(ways, cost, own=CARD):
    """The search on a card on which a step costs what `cost` says of kernels and width, and `ways` what the formula says."""
    found = Search({own: cost(own.kernels, own.width)})
    found.go_on(by_formula(ways, own, 128), lambda way: cost(way.kernels, way.width), budget=1e9, expected=0.0)
    return found


def made_up(cost):
    """Ways that all fit, and cost what `cost` says of kernels and width."""
    return {
        Way(width, kernels, memory=1, fits=True, moved=1, grouped=False): cost(kernels, width)
        for kernels in ("gemm", "xla")
        for width in WIDTHS
    }


def test_the_fastest_way_is_found_step_by_step():
    found = search(lambda way: abs(math.log2(way.width) - 8) + (1 if way.kernels == "gemm" else 3))
    assert (found.best.width, found.best.kernels, found.complete) == (256, "gemm", True)
    assert found.best.reason.startswith(f"of {len(found.seconds)} ways timed; the default takes 4.00 times as long")


def test_a_width_that_does_not_fit_is_not_taken():
    found = search(lambda way: math.inf if way.width > 64 else 1 / way.width)
    assert found.best.width == 64
    assert "width 128 does not fit in memory" in found.best.reason


def test_noise_does_not_choose():
    found = search(lambda way: 1.0 if way == OWN else 0.9)
    assert found.best == OWN


def test_a_busy_moment_does_not_choose():
    found = search(lambda way: 5.0 if way == OWN else 1.0)
    assert found.best != OWN
    found.confirm(lambda way: 1.0)
    assert found.best == OWN


def test_what_is_fixed_stays():
    found = search(lambda way: 1 / way.width, Freedom(width=False, kernels=True, devices=True, most=10_000))
    assert {way.width for way in found.seconds} == {32}
    found = search(lambda way: 1 / way.width, Freedom(width=True, kernels=False, devices=True, most=10_000))
    assert {way.kernels for way in found.seconds} == {"gemm"}
    # A group wider than the run would be padded.
    found = search(lambda way: 1 / way.width, Freedom(width=True, kernels=False, devices=True, most=150))
    assert max(way.width for way in found.seconds) == 64


def recorded(case, card):
    """A way's time as recorded, in between of the recorded widths on a straight line in logarithms."""
    records = [each for each in read_records() if (each["case"], each["card"]) == (case, card)]

    def cost(kernels, width):
        times = {
            each["width"]: each["training step"]["estimated_seconds_per_model"]
            for each in records
            if each["kernels"] == kernels
        }
        if not times:
            return math.inf
        widths = sorted(times)
        return float(np.exp(np.interp(np.log(width), np.log(widths), np.log([times[each] for each in widths]))))

    return cost


@pytest.mark.parametrize("card", CARDS)
@pytest.mark.parametrize("case", ["small_cnn", "small_inception", "resnet18_cifar", "small_resnet9"])
def test_the_fastest_recorded_way_is_found_wherever_the_search_begins(case, card):
    """The formula's numbers, the compiler's times: a way within a tenth of the fastest one, from two to eight programs."""
    cost, ways = recorded(case, card), CASES[case].ways(CARDS[card])
    fastest = min(cost(way.kernels, way.width) for way in ways if way.fits)
    for own in (CARD, CARD.change(4, "gemm", 1), CARD.change(1, "gemm", 1), CARD.change(8, "xla", 1)):
        found = search_card(ways, cost, own)
        assert min(found.seconds.values()) <= 1.1 * fastest and found.complete
        assert 2 <= len(found.seconds) <= 8
        # The formula's best way and its best by other kernels are among the first three.
        assert len({way.kernels for way in list(found.seconds)[:3]}) == 2


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("kernels", ["gemm", "xla"])
def test_every_way_is_reached_where_it_is_the_fastest(kernels, width):
    """A search that begins with one model at a time by XLA's convolutions finds it, on a card that the formula does not describe."""

    def cost(other, number):
        return 1 + abs(math.log2(number / width)) + (10 if other != kernels else 0)

    found = search_card(made_up(lambda other, number: 3.0 if other == "gemm" else 2.0), cost)
    assert min(found.seconds.values()) == cost(kernels, width)


def test_a_search_goes_on_that_a_larger_run_began():
    """The record of a run of more models holds a wider group than this one may take."""
    ways = made_up(lambda kernels, width: 1 + 0.01 / width)
    wider = CARD.change(8, "xla", 1)
    found = Search({CARD: 10.0, wider: 1.0})
    found.go_on(by_formula(ways, CARD, 4), lambda way: 1 + 9 / way.width, budget=1e9, expected=0.0)
    assert found.complete and CARD.change(4, "xla", 1) in found.seconds
    assert all(way.width <= 4 for way in found.seconds if way is not wider)


def test_what_does_not_fit_a_card_is_not_tried_wider():
    def cost(kernels, width):
        return math.inf if kernels == "gemm" and width > 8 else 1 / width if kernels == "gemm" else 5.0

    found = search_card(made_up(lambda kernels, width: 1 + 9 / width), cost)
    assert (found.best.kernels, found.best.width) == ("gemm", 8)
    assert sum(math.isinf(seconds) for seconds in found.seconds.values()) <= 3


def test_a_choice_of_one_way_is_no_search():
    alone = {Way(1, "xla", memory=1, fits=True, moved=1, grouped=False): 1.0}
    found = search_card(alone, lambda kernels, width: 1.0)
    assert list(found.seconds) == [CARD] and found.complete


def test_compiling_counts_in_a_cards_budget(monkeypatch):
    """Two minutes for each program: ten minutes hold five, and the next one is not begun."""
    now = [0.0]
    monkeypatch.setattr(tuning.time, "perf_counter", lambda: now[0])

    def measure(way):
        now[0] += 120
        return 1 / way.width

    found = Search({CARD: 1.0})
    ways = {way: 1.0 for way in made_up(lambda *_: 1.0) if way.kernels == "xla"}
    found.go_on(by_formula(ways, CARD, 128), measure, tuning.MAX_CARD_SECONDS, expected=20.0)
    assert now[0] == 600 and len(found.seconds) == 6 and not found.complete


def test_virtual_devices_may_be_too_many():
    own = Execution("cpu", num_devices=4, lanes=8, width=1, kernels="gemm")
    freedom = Freedom(width=True, kernels=False, devices=True, most=1000)
    found = search(lambda way: way.num_devices + way.width, freedom, own)
    assert (found.best.num_devices, found.best.width, found.best.lanes) == (1, 1, 8)


def test_a_spent_budget_ends_the_search():
    found = search(lambda way: 1.0, budget=-1.0)
    assert list(found.seconds) == [OWN] and not found.complete


def test_what_was_found_is_kept(toy, cache):
    masks, keys = np.ones((2, toy.num_train), bool), jax.random.split(jax.random.key(0), 2)
    record = SearchRecord.for_job(Job.make(masks, keys, toy, "mlp", RECIPE), ALL, OWN)
    assert not record.read().seconds
    found = search(lambda way: math.inf if way.width > 64 else 1 / way.width)
    record.write(found)
    again = record.read()
    assert again.seconds == found.seconds and again.best == found.best and again.complete
    # Another recipe, another answer; a damaged file, none.
    assert not SearchRecord.for_job(Job.make(masks, keys, toy, "mlp", Recipe(epochs=2)), ALL, OWN).read().seconds
    record.path.write_text("{")
    assert not record.read().seconds
    record.path.write_text(json.dumps({"ways": [{"execution": {"no": 1}, "seconds": 1}], "complete": True}))
    assert not record.read().seconds


def train(toy, models=4, **options):
    keys = jax.random.split(jax.random.key(0), models)
    options = {"model": LINEAR, "recipe": RECIPE, "progress": False} | options
    return train_ensemble(np.ones((models, 40), bool), keys, data=toy, **options)


@pytest.mark.slow
def test_a_long_run_is_tuned_and_records_it(toy, cache, monkeypatch, tmp_path):
    """Made-up speeds, the real loop: the run takes the fastest way, says why, and goes on with it."""
    monkeypatch.setattr(tuning, "MAX_SHARE", 1e9)
    monkeypatch.setattr(tuning, "time_step", lambda job, machine: 1e-9 if machine.execution.width == 2 else 1e9)
    costs = []
    runs = train(toy, run_dir=tmp_path / "run", on_cost=costs.append)
    taken = runs.attributes["execution"]
    assert (taken["width"], costs[0].execution.width) == (2, 2)
    assert "ways timed" in taken["reason"] and taken["reason"] in costs[0].describe()
    assert len(list(cache.iterdir())) == 1
    np.testing.assert_array_equal(train(toy, width=2).test_margin, runs.test_margin)
    # Remembered: a short run of the same kind takes it too.
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache.parent.parent))
    assert train(toy).attributes["execution"]["width"] == 2
    assert train(toy, tune=False).attributes["execution"]["width"] == 1


def test_a_short_run_is_not_tuned(toy, cache):
    expected = "no hand-written kernels" if native.why_unavailable() else "the default for cpu"
    assert train(toy).attributes["execution"]["reason"].startswith(expected)
    assert not cache.exists()


class NoMemory:
    """`time_programs` and `evaluate` of a device on which at most so many models fit at once."""

    def __init__(self, most, real):
        self.most, self.real, self.refused = most, real, []

    def __call__(self, job, machine):
        if machine.execution.width > self.most:
            self.refused.append(machine.execution.width)
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes.")
        return self.real(job, machine)


def test_out_of_memory_halves_the_width(toy, monkeypatch, caplog):
    full = NoMemory(2, cost.time_programs)
    monkeypatch.setattr(cost, "time_programs", full)
    runs = train(toy, width=8, tune=False)
    assert full.refused == [8, 4]
    assert runs.attributes["execution"]["width"] == 2
    assert "going on with 4" in caplog.text and "going on with 2" in caplog.text
    np.testing.assert_array_equal(runs.test_margin, train(toy, width=2, tune=False).test_margin)


def test_out_of_memory_in_the_middle_of_a_run(toy, monkeypatch, caplog):
    real, calls = loop.ShardTraining._train_group, []

    def train_group(self, *arguments):
        calls.append(self._work.machine.execution.width)
        if len(calls) == 2:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes.")
        return real(self, *arguments)

    monkeypatch.setattr(loop.ShardTraining, "_train_group", train_group)
    runs = train(toy, models=64, width=2, shard_size=32, tune=False)
    assert calls[:3] == [2, 2, 1] and "Out of memory" in caplog.text
    monkeypatch.undo()
    # The shard whose memory ran out is trained anew, one at a time; nothing is lost or done twice.
    expected = train(toy, models=64, width=1, tune=False).test_margin
    np.testing.assert_allclose(runs.test_margin, expected, rtol=1e-4, atol=1e-5)


def test_not_even_one_model_fits(toy, monkeypatch):
    monkeypatch.setattr(cost, "time_programs", NoMemory(0, None))
    with pytest.raises(OutOfMemory, match=r"not even one .*linear at a time fits.*Use a smaller batch_size"):
        train(toy, width=1)


def test_other_failures_are_passed_on(toy, monkeypatch):
    def broken(*_):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")

    monkeypatch.setattr(cost, "time_programs", broken)
    with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
        train(toy, width=4)


def test_a_way_changed_into_itself_is_the_same(toy):
    model = build_model("mlp", inputs=(8, 8, 1), outputs=3)
    execution = choose_execution(model, RECIPE, toy)
    assert execution.change(execution.width, execution.kernels, execution.num_devices) == execution
