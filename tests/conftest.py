"""Settings of all tests: silent broadcasting and promotion are errors, and there are two devices on any machine."""

import os

os.environ.setdefault("JAX_NUM_CPU_DEVICES", "2")

import jax
import numpy as np
import pytest

import jaxinfl

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")


@pytest.fixture(scope="session", autouse=True)
def image_cache(tmp_path_factory):
    """Decoded images go to a folder of this session, not to the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXINFL_IMAGE_CACHE", str(tmp_path_factory.mktemp("image_cache")))
        yield


def make_data(
    num_train: int = 40, num_test: int = 12, side: int = 8, channels: int = 1, seed: int = 0
) -> jaxinfl.Dataset:
    """Random images of three classes; the class brightens a third of the rows, so that there is something to learn."""
    rng = np.random.default_rng(seed)

    def split(size: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.arange(size) % 3
        images = rng.integers(0, 120, (size, side, side, channels))
        for image, label in zip(images, labels, strict=True):
            image[label * side // 3 : (label + 1) * side // 3] += 100
        return images.astype(np.uint8), labels

    train_images, train_labels = split(num_train)
    test_images, test_labels = split(num_test)
    return jaxinfl.Dataset(
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
        name="toy",
    )


@pytest.fixture(scope="session")
def toy() -> jaxinfl.Dataset:
    """40 training and 12 test images, 8x8x1."""
    return make_data()


@pytest.fixture(scope="session")
def digits() -> jaxinfl.Dataset:
    return jaxinfl.load_dataset("digits")
