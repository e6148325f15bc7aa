"""What a run keeps of each model besides its scores after the last epoch."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack, get_args

from jaxinfl.arguments import check_choice, check_switch, check_whole, quote
from jaxinfl.store.errors import RunDirectoryError

KeptOutputs = Literal["test", "both"]
"""The examples whose outputs are kept: those of the test set, or of both sets."""
OUTPUTS = "outputs"
"""Name of the array of kept outputs, behind `train_` and `test_`."""
OUTPUT_DTYPE = "float16"
"""Type of kept outputs. It holds three decimal digits, and numbers up to 65,504."""


class Keep(TypedDict, total=False):
    """The arguments of `train_ensemble` that say what is kept."""

    keep_weights: bool
    keep_outputs: KeptOutputs | None
    keep_epochs: Collection[int]


@dataclass(frozen=True)
class Kept:
    """What is kept of each model. A run keeps it from its first model to its last."""

    weights: bool = False
    """Whether the final weights are kept."""
    outputs: KeptOutputs | None = None
    """The examples whose outputs after the last epoch are kept, or None."""
    epochs: tuple[int, ...] = ()
    """Numbers of finished epochs after which the scores are kept, too, in rising order."""

    @classmethod
    def check(cls, num_epochs: int, **keep: Unpack[Keep]) -> "Kept":
        """Make it from the user's arguments, for models of so many epochs.

        Raises:
          TypeError, ValueError: an argument has a value that it does not take.
        """
        weights, outputs = keep.get("keep_weights", False), keep.get("keep_outputs")
        epochs: Any = keep.get("keep_epochs", ())
        check_switch(weights, "keep_weights")
        if outputs is not None:
            check_choice(outputs, "keep_outputs", get_args(KeptOutputs))
        takes = f"numbers of epochs from 1 to the recipe's {num_epochs}, such as (5, 10)"
        if isinstance(epochs, (str, bytes)) or not isinstance(epochs, Collection) or getattr(epochs, "ndim", 1) != 1:
            raise TypeError(f"keep_epochs is {quote(epochs)}; it takes {takes}.")
        if not len(epochs):
            return cls(bool(weights), outputs)
        if num_epochs < 1:
            raise ValueError(f"keep_epochs is {quote(epochs)}, but the recipe trains no epoch. Leave it out.")
        numbers = [check_whole(each, "keep_epochs", 1, num_epochs, "epochs") for each in epochs]
        if len(set(numbers)) < len(numbers):
            raise ValueError(f"keep_epochs is {quote(epochs)}; it takes different {takes}.")
        return cls(bool(weights), outputs, tuple(sorted(numbers)))

    @classmethod
    def of_run(cls, attributes: Mapping[str, Any]) -> "Kept":
        """What a run keeps, as its description says."""
        return cls("weights" in attributes, attributes.get("outputs"), tuple(attributes.get("epochs", ())))

    def check_asked(self, asked: "Kept", path: Path | None) -> None:
        """Raise `RunDirectoryError` unless a run that keeps this keeps all that is asked for."""
        missing = []
        if asked.weights and not self.weights:
            missing.append(("weights", "keep_weights=True", "keep_weights"))
        if asked.outputs not in (None, self.outputs) and self.outputs != "both":
            what = "outputs" if self.outputs is None else "outputs of the training examples"
            missing.append((what, f"keep_outputs={asked.outputs!r}", "keep_outputs"))
        if later := sorted(set(asked.epochs) - set(self.epochs)):
            missing.append((f"scores after epoch {later[0]}", f"keep_epochs={asked.epochs}", "keep_epochs"))
        for what, argument, name in missing:
            raise RunDirectoryError(
                f"{path} keeps no {what}, because it was started without {argument}. Use another run_dir, or leave {name} out."
            )

    def describe(self) -> dict[str, Any]:
        """The part of a run's description that says what it keeps, as JSON values; weights are described with their shapes."""
        outputs = {} if self.outputs is None else {"outputs": self.outputs}
        return outputs | ({"epochs": list(self.epochs)} if self.epochs else {})


def name_at_epoch(name: str, epoch: int) -> str:
    """Name of a score, or of what is recorded for it, after an epoch. No other score has it, because scores are identifiers."""
    return f"{name}@{epoch}"


__all__ = ["OUTPUTS", "OUTPUT_DTYPE", "Keep", "Kept", "KeptOutputs", "name_at_epoch"]
