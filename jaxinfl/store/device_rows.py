"""The kind of device that trained each model, as an array of a run: a run may go on on devices of another kind."""

import numpy as np
from jaxtyping import UInt8

from jaxinfl.store.layout import RowArray
from jaxinfl.store.run import RunStore

DEVICE = "device_kind"
"""Name of the array."""
_BYTES = 64
DEVICE_ROWS = RowArray((_BYTES,), "uint8", ("byte",))
"""Its rows: text in UTF-8, filled up with zeros. Zarr has no stable type for text."""


def device_rows(store: RunStore, kind: str, num_models: int) -> dict[str, UInt8[np.ndarray, "models bytes"]]:
    """The rows of the array for models that devices of one kind trained; nothing for runs made before it was recorded."""
    if DEVICE not in store.row_arrays:
        return {}
    text = np.frombuffer(kind.encode()[:_BYTES].ljust(_BYTES, b"\0"), np.uint8)
    return {DEVICE: np.tile(text, (num_models, 1))}


def read_kinds(rows: UInt8[np.ndarray, "models bytes"]) -> np.ndarray:
    """The kinds of devices that rows of the array spell, as text [models]."""
    # NumPy's own bytes end where the zeros begin.
    return np.char.decode(np.ascontiguousarray(rows).view(f"S{_BYTES}")[:, 0], "utf-8", "replace")


__all__ = ["DEVICE", "DEVICE_ROWS", "device_rows", "read_kinds"]
