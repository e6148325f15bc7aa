"""Thousands of random mistakes at the public functions: each is refused in words that name the argument, or changes nothing."""

import dataclasses
from typing import Any

import jax
import jaxtyping
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import jaxinfl
from jaxinfl.store import RunDirectoryError
from tests import valid_calls
from tests.bad_inputs import Call, forbid_compilation
from tests.valid_calls_any_data import ANY_DATA
from tests.valid_calls_attribution import ATTRIBUTION
from tests.valid_calls_cluster import CLUSTER
from tests.valid_calls_privacy import PRIVACY
from tests.valid_calls_published import PUBLISHED

CALLS = valid_calls.CALLS + PRIVACY + PUBLISHED + ATTRIBUTION + CLUSTER + ANY_DATA
INPUTS, INPUTS_OF_ANY_DATA = 3000, 1000
OF_ONE_SIZE = {"one more row", "one row less", "no columns", "fewer", "other length", "other pixels"}
COMPILED = "/jax/core/compile/backend_compile_duration"


@pytest.fixture(autouse=True, scope="module")
def types_unchecked():
    """Switch the type checker off, so that functions raise their own errors, as outside the tests."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


class Compilations:
    """A counter of the programs that were compiled so far."""

    def __init__(self):
        self.number = 0
        jax.monitoring.register_event_duration_secs_listener(self)

    def __call__(self, event: str, duration: float, **_: Any) -> None:
        self.number += event == COMPILED


@pytest.fixture(scope="module")
def compilations():
    return Compilations()


def arrays_of(result: Any) -> list[np.ndarray]:
    """Every number of a result."""
    if isinstance(result, jaxinfl.Dataset):
        return [np.frombuffer(result.fingerprint.encode(), np.uint8)]
    if isinstance(result, jaxinfl.Ensemble):
        return [
            result.masks,
            *(score(name) for name in result.scores for score in (result.train_score, result.test_score)),
        ]
    if isinstance(result, jaxinfl.Outcomes):
        return [result.masks, result.test_score, result.train_score]
    if isinstance(result, jaxinfl.ModelKeys):
        return [result.data()]
    if isinstance(result, (jaxinfl.Recipe, jaxinfl.Task)):
        return [np.array(repr(result))]
    if dataclasses.is_dataclass(result):
        return [np.asarray(getattr(result, field.name)) for field in dataclasses.fields(result)]
    return [np.asarray(leaf) for leaf in jax.tree.leaves(result)]


def check_same(one: np.ndarray, other: np.ndarray) -> None:
    """Equal but for the order in which NumPy sums arrays that lie otherwise in memory."""
    if one.dtype.kind == "f":
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-14)
    else:
        np.testing.assert_array_equal(one, other)


@pytest.fixture(scope="module")
def results():
    """Results of the valid calls, which are made first, so that their programs are compiled."""
    jaxinfl.ModelKeys.split(jax.random.split(jax.random.key(0), 12))
    return [arrays_of(call.function(**call.arguments)) if call.runs else [] for call in CALLS]


@st.composite
def inputs(draw, first=0):
    """A call's number from `first` on, the names of one or two of its arguments, and for each a way to change it; none is to break several
    or write one otherwise."""
    number = draw(st.integers(first, len(CALLS) - 1))
    call = CALLS[number]
    rewrite = draw(st.integers(0, 9)) == 0 and call.runs
    tables = {name: kind.equal if rewrite else kind.broken for name, kind in call.kinds.items()}
    names = draw(st.lists(st.sampled_from(sorted(tables)), min_size=1, max_size=2, unique=True))
    changes = {name: draw(st.sampled_from(sorted(tables[name]))) for name in names if tables[name]}
    return number, rewrite, changes, draw(st.integers(0, 2**32 - 1))


def changed(call: Call, rewrite: bool, changes: dict[str, str], seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    new = {}
    for name, change in changes.items():
        kind = call.kinds[name]
        new[name] = (kind.equal if rewrite else kind.broken)[change](call.arguments[name], rng)
    return new


@pytest.mark.parametrize(
    ("number_of_inputs", "first", "least"),
    [
        (INPUTS, 0, {"refused": 2000, "the same": 101}),
        (
            INPUTS_OF_ANY_DATA,
            len(valid_calls.CALLS + PRIVACY + PUBLISHED + ATTRIBUTION + CLUSTER),
            {"refused": 600, "the same": 0},
        ),
    ],
)
def test_random_mistakes(number_of_inputs, first, least, results, compilations):
    """No hang, no traceback from below, no silent wrong answer, nothing compiled for what is refused."""
    tried = {"refused": 0, "the same": 0}

    @given(inputs(first))
    @settings(
        max_examples=number_of_inputs,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    def mistake(drawn):
        number, rewrite, changes, seed = drawn
        call = CALLS[number]
        if not changes or (len(changes) == 2 and set(changes.values()) <= OF_ONE_SIZE):
            return  # two arguments of another size may fit each other
        new = changed(call, rewrite, changes, seed)
        before = compilations.number
        with forbid_compilation():
            if rewrite:
                for one, other in zip(
                    arrays_of(call.function(**{**call.arguments, **new})), results[number], strict=True
                ):
                    check_same(one, other)
                tried["the same"] += 1
                return
            with pytest.raises((TypeError, ValueError)) as refused:
                call.function(**{**call.arguments, **new})
        assert any(name in str(refused.value) for name in new), f"{changes}: {refused.value}"
        assert compilations.number == before
        tried["refused"] += 1

    mistake()
    assert all(tried[kind] >= number for kind, number in least.items()), tried


@pytest.mark.parametrize("call", CALLS, ids=lambda call: getattr(call.function, "__qualname__", "?"))
def test_every_mistake_alone(call, results, compilations):
    """Each way to break each argument, with one seed."""
    with forbid_compilation():
        for name, kind in call.kinds.items():
            for change in kind.broken:
                new = changed(call, False, {name: change}, 0)
                with pytest.raises(kind.errors(change)) as refused:
                    call.function(**{**call.arguments, **new})
                assert name in str(refused.value), f"{change}: {refused.value}"


def test_what_is_public_is_tried():
    classes_and_modules = {
        "Brittleness",
        "ClusterError",
        "DatasetUnavailable",
        "Discoveries",
        "Ensemble",
        "Estimate",
        "Job",
        "LdsPlan",
        "Membership",
        "ModelPlan",
        "PairsComparison",
        "PublishedPairs",
        "PublishedScores",
        "RunDirectoryError",
    }
    classes_and_modules |= {"Cost", "OutOfMemory", "Outcomes", "TooManyDiverged", "WriteFailed", "recipes", "tasks"}
    tried = {call.function.__name__ for call in CALLS}
    assert set(jaxinfl.__all__) - classes_and_modules <= tried
    with pytest.raises(RunDirectoryError, match="nowhere is no run directory"):
        jaxinfl.Ensemble.open("nowhere")
