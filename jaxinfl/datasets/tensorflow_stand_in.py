"""The few functions of TensorFlow that TFDS needs to prepare an image data set, written with Python's library and Pillow.

TFDS 4.9.10 reads without TensorFlow, but still calls it to prepare. It unpacks archives (`tf.io.gfile`,
`tf.compat.as_text`), encodes arrays as PNG (`tf.image.encode_png`), and opens the files of most data sets with
`tf.io.gfile.GFile`. Without a stand-in, cifar10, cifar100, dtd and oxford_flowers102 all fail with
"No module named 'tensorflow'" after the download (https://github.com/tensorflow/datasets/issues/11058).

Only lossless operations are here, so the prepared pixels are the same as with TensorFlow. JPEG encoding is left out.
"""

import contextlib
import glob
import importlib.util
import io
import os
import shutil
from collections.abc import Iterator
from types import SimpleNamespace
from typing import IO, Any

import numpy as np
from PIL import Image


@contextlib.contextmanager
def tensorflow_stand_in() -> Iterator[None]:
    """Let TFDS find the stand-in where it looks for TensorFlow, until the block ends; do nothing if that is installed.

    TFDS reaches TensorFlow through one lazily importing object; this fills that object's cache and empties it again.
    `sys.modules` stays untouched, so no other library mistakes the stand-in for TensorFlow.
    """
    from tensorflow_datasets.core.utils import lazy_imports_utils

    if importlib.util.find_spec("tensorflow") is not None:
        yield
        return
    lazy_module = vars(lazy_imports_utils.tensorflow)
    lazy_module["_module"] = _TENSORFLOW
    try:
        yield
    finally:
        lazy_module.pop("_module", None)


class _Namespace(SimpleNamespace):
    """A part of the stand-in; names that it lacks raise the error that they would raise without the stand-in."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # Python itself asks for these, to copy for instance
            raise AttributeError(name)
        raise ModuleNotFoundError(f"No module named 'tensorflow', which is needed for {name!r}", name="tensorflow")


class _Encoded:
    """The result of an eager TensorFlow operation, as far as TFDS looks at it."""

    def __init__(self, encoded: bytes):
        self._encoded = encoded

    def numpy(self) -> bytes:
        return self._encoded


class _NeverRaised(Exception):
    """A stand-in for TensorFlow's errors in `except` clauses; the functions here raise Python's own errors."""


def _encode_png(image: np.ndarray) -> _Encoded:
    """Encode a uint8 image [height, width, channels] of 1 to 4 channels as PNG."""
    if image.dtype != np.uint8:
        raise TypeError(f"image has dtype {image.dtype}; it takes uint8. Install TensorFlow to prepare others.")
    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, "PNG")
    return _Encoded(file.getvalue())


def _open(path: str | os.PathLike, mode: str = "r") -> IO[Any]:
    return open(path, mode, encoding=None if "b" in mode else "utf-8")


def _copy(source: str | os.PathLike, target: str | os.PathLike, overwrite: bool = False) -> None:
    if not overwrite and os.path.exists(target):
        raise FileExistsError(target)
    shutil.copyfile(source, target)


_GFILE = _Namespace(
    GFile=_open,
    copy=_copy,
    exists=os.path.exists,
    glob=lambda pattern: sorted(glob.glob(os.fspath(pattern))),
    isdir=os.path.isdir,
    listdir=lambda path: sorted(os.listdir(path)),
    makedirs=lambda path: os.makedirs(path, exist_ok=True),
    mkdir=os.mkdir,
    remove=os.remove,
    rmtree=shutil.rmtree,
    walk=os.walk,
)

_ERRORS = _Namespace(
    AbortedError=_NeverRaised,
    FailedPreconditionError=_NeverRaised,
    InvalidArgumentError=_NeverRaised,
    NotFoundError=FileNotFoundError,
    OutOfRangeError=_NeverRaised,
    PermissionDeniedError=PermissionError,
    ResourceExhaustedError=_NeverRaised,
    UnimplementedError=_NeverRaised,
)

_TENSORFLOW = _Namespace(
    compat=_Namespace(
        as_bytes=lambda text: text if isinstance(text, bytes) else text.encode(),
        as_text=lambda text: text.decode() if isinstance(text, bytes) else str(text),
    ),
    errors=_ERRORS,
    executing_eagerly=lambda: True,
    image=_Namespace(encode_png=_encode_png),
    io=_Namespace(gfile=_GFILE),
)
