"""Images and folders of images, which the tests of data sets share."""

import io

import numpy as np
from PIL import Image

CHECKED_BEFORE = "Type-check error"  # jaxtyping's, a TypeError too, when the tests run with annotations checked


def random_images(n, height=4, width=5, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, height, width, channels), dtype=np.uint8)


def arrays(**changes):
    """Make valid arguments of `Dataset`: 6 training and 4 test examples of 3 classes."""
    valid = {
        "train_inputs": random_images(6),
        "train_targets": np.array([0, 1, 2, 2, 1, 0]),
        "test_inputs": random_images(4, seed=1),
        "test_targets": np.array([2, 1, 0, 1]),
    }
    return valid | changes


def png(image, mode=None, file_format="PNG"):
    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).convert(mode).save(file, file_format)
    return file.getvalue()


def write_folder(root, files):
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root
