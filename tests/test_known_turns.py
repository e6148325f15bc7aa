"""The loop over steps has a number of turns that the compiler knows, and it changes no bit."""

import re

import jax
import numpy as np
import pytest

import jaxinfl
from jaxinfl.training.job import Job
from jaxinfl.training.loop import make_segment
from jaxinfl.training.machine import Machine, choose_chunk, choose_execution
from jaxinfl.training.programs import Execution
from tests.kinds_of_data import KINDS
from tests.test_any_data import KEYS, MASKS, train

COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")


def compiled_training(kind, execution):
    job = Job.make(MASKS, KEYS, kind.data, kind.model, kind.recipe)
    machine = Machine.for_job(job, execution(job))
    programs, data = machine.programs, machine.data
    masks, keys = programs.place(job.masks, job.keys)
    states = programs.start(data, masks, keys, programs.place_rows(job.given, np.arange(len(job))))
    return programs.advance.lower(data, states, masks, keys, make_segment(0, 2)).compile().as_text()


def test_the_compiler_knows_the_turns_of_the_loop_over_steps():
    def execution(job):
        return choose_execution(job.model, job.recipe, job.data)

    kind = KINDS["table"]
    text = compiled_training(kind, execution)
    known = [int(number) for number in re.findall(r'known_trip_count":\{"n":"(\d+)"', text)]
    assert execution(Job.make(MASKS, KEYS, kind.data, kind.model, kind.recipe)).chunk == 8 and 8 in known
    assert not any(word in text for word in COLLECTIVES)


@pytest.mark.parametrize("chunk", [1, 2, 3, 8])
@pytest.mark.parametrize("width", [1, 2])
def test_chunks_change_no_bit(chunk, width, monkeypatch):
    """Models take one to four steps an epoch; steps beyond the last are skipped by branches, or computed and dropped."""
    kind = KINDS["dict"]
    whole = train(kind, width=width)
    monkeypatch.setattr("jaxinfl.training.machine._CPU_CHUNK", chunk)
    other = train(kind, width=width)
    for name in whole.scores:
        np.testing.assert_array_equal(other.test_score(name), whole.test_score(name))


def test_chunks_lose_at_most_3_percent():
    for steps in ([25, 25], [782] * 3, [787], [67, 71], range(100, 1000), [16, 17, 23]):
        counts = np.array(steps)
        chunk = choose_chunk(counts, 64)
        computed = -(-counts // chunk) * chunk
        assert computed.sum() <= 1.03 * counts.sum()
    assert choose_chunk(np.array([25, 25]), 64) == 25 and choose_chunk(np.array([782]), 64) == 46
    assert choose_chunk(np.array([16, 17, 23]), 64) == 1 and choose_chunk(None, 64) == 1


def test_models_of_one_size_are_trained_together(monkeypatch):
    """Several are trained at once, and their results are in the order of the masks."""
    seen = []
    place = jaxinfl.training.programs.Programs.place

    def note(self, masks, keys):
        seen.append(masks.sum(axis=1).tolist())
        return place(self, masks, keys)

    kind = KINDS["table"]
    order = np.array([3, 0, 2, 1])
    alone = train(kind, width=2)
    monkeypatch.setattr(jaxinfl.training.programs.Programs, "place", note)
    monkeypatch.setattr("jaxinfl.training.machine.CALL_FLOPS", 0.0)
    masks, keys = MASKS[order], KEYS[order]
    options = {"data": kind.data, "model": kind.model, "recipe": kind.recipe, "progress": False, "tune": False}
    runs = jaxinfl.train_ensemble(masks, keys, **options, width=2)
    sizes = [size for group in seen if sorted(group) == group and len(set(group)) > 1 for size in group]
    assert sizes == sorted(MASKS.sum(axis=1).tolist())
    np.testing.assert_array_equal(runs.test_margin, alone.test_margin[order])


def test_steps_that_are_computed():
    cpu = Execution("cpu", num_devices=2, lanes=8, width=1, kernels="gemm", chunk=8)
    assert cpu.computed_steps(5) == 5 and cpu.change(2, "gemm", 2).computed_steps(5) == 8
    gpu = Execution("gpu", num_devices=1, lanes=1, width=1, kernels="xla", chunk=25)
    np.testing.assert_array_equal(gpu.computed_steps(np.array([25, 26])), [25, 50])


@pytest.mark.skipif(jax.device_count() < 2, reason="is about several devices")
def test_a_machine_of_several_devices_has_no_collective():
    text = compiled_training(KINDS["regression"], lambda job: choose_execution(job.model, job.recipe, job.data))
    assert "num_partitions=2" in text.splitlines()[0] and not any(word in text for word in COLLECTIVES)
