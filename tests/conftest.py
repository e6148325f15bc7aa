"""Settings of all tests: silent broadcasting and promotion are errors, and every machine has two devices."""

import atexit
import os
import shutil
import signal
import tempfile

# A shell that starts the tests in the background has them ignore Ctrl-C, and they would start processes that ignore it, too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "2")
if "JAXINFL_TESTS_FOLDER" not in os.environ:
    # All processes of a test run share one folder, which is removed at its end: the workers of xdist and the commands that
    # tests start inherit these variables.
    os.environ["JAXINFL_TESTS_FOLDER"] = FOLDER = tempfile.mkdtemp(prefix="jaxinfl-tests-")
    atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)
    # pytest keeps the folders of tests that failed in the last three runs, for whoever looks into it: they stay where they were.
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
    # TFDS leaves an empty temporary folder behind for every data set whose description it looks up.
    os.environ["TMPDIR"] = tempfile.tempdir = os.path.join(FOLDER, "temporary")
    os.mkdir(os.environ["TMPDIR"])
    # Programs are compiled once in a test run: most of the time would go into compiling the same ones again.
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", os.path.join(FOLDER, "programs"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")

import hypothesis
import jax
import jaxtyping
import numpy as np
import pytest

import jaxinfl

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
# A busy machine is no reason to fail.
hypothesis.settings.register_profile("unhurried", deadline=None)
hypothesis.settings.load_profile("unhurried")

LONGEST = (
    "test_docs",
    "test_packaging",
    "test_models_per_hour",
    "test_large_models",
    "test_lowering",
    "test_experiments",
    "test_ensemble",
    "test_any_data",
    "test_explorer_page",
    "test_from_scores",
    "test_devices",
    "test_planner",
    "test_benchmarks",
    "test_accumulation",
    "test_overrides",
    "test_tuning",
    "test_weights",
    "test_models",
    "test_native",
    "test_extension",
    "test_chaos",
    "test_run_directory",
    "test_experiments_nondeterminism",
    "test_uncertainty_experiment",
    "test_experiments_how_many_models",
    "test_parts",
    "test_paths",
    "test_experiments_finetune",
    "test_experiments_sweep",
    "test_overlap",
)
"""Test files that take longest, with their slow tests; processes get whole files, in the order of collection."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first, so that no process is left with one of them when the others are done."""
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


def pytest_configure(config: pytest.Config) -> None:
    # A program that another process is still writing into the cache is compiled once more, with this warning.
    config.addinivalue_line("filterwarnings", "ignore:Error reading persistent compilation cache entry")


@pytest.fixture
def types_unchecked():
    """Switch the type checker off, so that functions raise their own errors, as outside the tests."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session", autouse=True)
def image_cache(tmp_path_factory):
    """Keep decoded images in a folder of this session, not in the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXINFL_IMAGE_CACHE", str(tmp_path_factory.mktemp("image_cache")))
        yield


@pytest.fixture
def no_download(monkeypatch):
    """Refuse every access to the network."""
    import requests

    def refuse(*args, **kwargs):
        raise AssertionError("a test tried to use the network")

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", refuse)


@pytest.fixture
def compiled_quickly():
    """Compile programs with few optimizations, where neither their speed nor their last bits matter."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def make_data(
    num_train: int = 40, num_test: int = 12, side: int = 8, channels: int = 1, seed: int = 0
) -> jaxinfl.Dataset:
    """Make random images of three classes; the class brightens a third of the rows, so that there is something to learn."""
    rng = np.random.default_rng(seed)

    def split(size: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.arange(size) % 3
        images = rng.integers(0, 120, (size, side, side, channels))
        for image, label in zip(images, labels, strict=True):
            image[label * side // 3 : (label + 1) * side // 3] += 100
        return images.astype(np.uint8), labels

    train_inputs, train_targets = split(num_train)
    test_inputs, test_targets = split(num_test)
    return jaxinfl.Dataset(
        train_inputs=train_inputs,
        train_targets=train_targets,
        test_inputs=test_inputs,
        test_targets=test_targets,
        name="toy",
    )


@pytest.fixture(scope="session")
def toy() -> jaxinfl.Dataset:
    """A data set of 40 training and 12 test images, 8x8x1."""
    return make_data()


@pytest.fixture(scope="session")
def digits() -> jaxinfl.Dataset:
    return jaxinfl.load_dataset("digits")


@pytest.fixture(scope="session")
def base(toy) -> jaxinfl.Ensemble:
    """The six models of `tests.small_ensembles`, kept in memory."""
    from tests.small_ensembles import keys_of, subsets, train

    return train(subsets(), keys_of(6), toy)
