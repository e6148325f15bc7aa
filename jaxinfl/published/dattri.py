"""Ground truth of dattri: which examples each subset holds, and what the models say on average, in PyTorch's files.

`indices_lds.pt` integers [subsets, size]; `target_values_lds.pt` floats [subsets, test], minus the target function, so larger is better.
They are read by `torch.load(weights_only=True)`, which runs no program of the file, and only where PyTorch is installed.

Source: Deng et al. (2024), dattri, the benchmark's downloads and `dattri.metric.lds`.
"""

import importlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from jaxinfl.arguments import check_whole, quote
from jaxinfl.datasets import Dataset
from jaxinfl.published.array_files import Note, check_array, read_note
from jaxinfl.published.datamodels import of_kind
from jaxinfl.published.order import unlabelled_order
from jaxinfl.store import Ensemble, RunDirectoryError
from jaxinfl.store.files_of_others import FilesOfOthers

INDICES, VALUES = "indices_lds.pt", "target_values_lds.pt"
SCORE = "target_value"
"""Name of minus the target function."""
_MOST_TRAIN = 10**9


def recognize(path: Path) -> str | None:
    """Why a folder looks like dattri's; None where it does not."""
    return f"it holds {INDICES}" if (path / INDICES).is_file() else None


def read(path: Path, data: Dataset | None, options: dict[str, Any]) -> FilesOfOthers:
    """Read the subsets as models; `options["num_train"]` is the number of training examples.

    Raises:
      RunDirectoryError: files are missing, damaged, or do not fit each other; PyTorch is not installed.
    """
    indices = read_tensor(path / INDICES, "integers [subsets, size]", "iu", 2)
    values = read_tensor(path / VALUES, "floats [subsets, test]", "f", 2).astype(np.float32)
    if len(indices) != len(values):
        raise RunDirectoryError(
            f"{path / INDICES} has {len(indices)} subsets and {VALUES} {len(values)}; it takes as many."
        )
    num_train = options.get("num_train")
    if num_train is None and data is not None:
        num_train = data.num_train
    if num_train is None:
        raise RunDirectoryError(
            f"{path} does not say how many training examples there are: the largest index is {indices.max()}, and the last ones may be in "
            "no subset. Give num_train, or data."
        )
    masks = masks_of_indices(indices, check_whole(num_train, "num_train", 1, _MOST_TRAIN), str(path / INDICES))
    note = read_note(path, Note(SCORE, "real"))
    about = {"layout": "dattri", "order": note.order or unlabelled_order(data, path)}
    return FilesOfOthers(
        path, masks, {("test", note.score): (of_kind(values, note.kind), note.kind)}, data=data, about=about
    )


def write(runs: Ensemble, path: Path, score: str) -> None:
    """Write the two files of a run's subsets and the test examples' scores.

    Raises:
      ValueError: subsets differ in size, which a matrix of indices cannot hold.
      RunDirectoryError: PyTorch is not installed.
    """
    torch = _torch(path)
    masks = runs.masks
    sizes = masks.sum(axis=1)
    if sizes.min() != sizes.max():
        raise ValueError(
            f"the subsets have {sizes.min()} to {sizes.max()} examples; dattri's indices are a matrix, which takes subsets of one size. "
            "Write runs[rows] of one size."
        )
    indices = np.nonzero(masks)[1].reshape(len(masks), -1)
    torch.save(torch.from_numpy(indices.astype(np.int64)), path / INDICES)
    torch.save(torch.from_numpy(np.ascontiguousarray(runs.test_score(score), np.float32)), path / VALUES)


def masks_of_indices(indices: np.ndarray, num_train: int, where: str) -> Bool[np.ndarray, "models train"]:
    """Turn lists of included examples into masks.

    Raises:
      RunDirectoryError: an index is out of range, or twice in one subset.
    """
    if indices.min() < 0 or indices.max() >= num_train:
        wrong = indices[(indices < 0) | (indices >= num_train)][0]
        raise RunDirectoryError(
            f"{where} holds {wrong}; it takes indices from 0 to {num_train - 1} of {num_train} training examples."
        )
    masks = np.zeros((len(indices), num_train), np.bool_)
    np.put_along_axis(masks, indices, True, axis=1)
    short = np.flatnonzero(masks.sum(axis=1) != indices.shape[1])
    if short.size:
        raise RunDirectoryError(f"{where} holds an example twice in subset {short[0]}; it takes each once.")
    return masks


def read_tensor(path: Path, takes: str, kinds: str, ndim: int) -> np.ndarray:
    """Read one tensor of a file, without running anything of it.

    Raises:
      RunDirectoryError: there is no such file, it holds anything but one tensor, or PyTorch is not installed.
    """
    if not path.is_file():
        raise RunDirectoryError(f"there is no file {path}, which holds {takes}.")
    torch = _torch(path)
    values: np.ndarray | None = None
    try:
        found = torch.load(path, weights_only=True, map_location="cpu")
        if isinstance(found, torch.Tensor):
            plain = found.detach()
            values = (plain.float() if plain.dtype == torch.bfloat16 else plain).numpy()
    except Exception as error:  # a file that somebody else wrote may make PyTorch raise anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        reason = "it holds more than tensors" if "Weights only load failed" in reason else reason
        raise RunDirectoryError(
            f"{path} cannot be read by torch.load(weights_only=True), which runs no program of the file: {reason}. It takes one tensor, {takes}."
        ) from error
    if values is None:
        raise RunDirectoryError(f"{path} holds {quote(type(found).__name__)}; it takes one tensor, {takes}.")
    return check_array(values, str(path), takes, kinds, ndim)


def _torch(path: Path) -> Any:
    if find_spec("torch") is None:
        raise RunDirectoryError(f"{path} is a file of PyTorch, which is not installed. Run `pip install torch`.")
    return importlib.import_module("torch")


__all__ = ["SCORE", "masks_of_indices", "read", "recognize", "write"]
