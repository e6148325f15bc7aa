"""Options of commands that load the data set of a run again."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from jaxinfl.datasets.dataset import Dataset
from jaxinfl.datasets.kinds import COLUMN_OPTIONS
from jaxinfl.datasets.load import load_dataset, take_again


@dataclass(frozen=True, kw_only=True)
class ReloadOptions:
    """Options that name a data set, where the name that the run records does not lead to it."""

    data: str | None = None
    """The data set, as a file, a folder or a name, where the name that the run records does not lead to it."""
    data_dir: str | None = None
    """Folder in which TFDS keeps prepared data sets."""
    image_size: int | None = None
    """Side in pixels to which the images were resized when the data set was loaded."""
    splits: str | None = None
    """TFDS splits with which the data set was loaded, such as train+validation:test."""
    background: Literal["white", "black"] | None = None
    """Colour onto which transparent images were put when the data set was loaded."""

    def load(self, recorded: Mapping[str, Any] | None) -> Dataset | None:
        """Load the data set that the user names, with the columns and numbers of examples that the run records; None where none is named.

        Raises:
          DatasetUnavailable, ValueError, OSError: it cannot be loaded.
        """
        if self.data is None:
            return None
        recorded = recorded or {}
        whole = load_dataset(
            self.data,
            self.data_dir,
            image_size=self.image_size,
            splits=self.splits,
            background=self.background,
            **{name: recorded[name] for name in COLUMN_OPTIONS if name in recorded},
        )
        return take_again(whole, recorded)


__all__ = ["ReloadOptions"]
