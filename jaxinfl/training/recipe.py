"""`Recipe`: everything that decides how one model is trained, in one frozen, hashable object."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, get_args

from jaxinfl.arguments import check_choice, check_number, check_switch, is_number, quote

Optimizer = Literal["sgd", "adamw"]
Schedule = Literal["step", "cosine", "linear", "constant"]
Dtype = Literal["float32", "bfloat16"]
Normalization = Literal["subset", "none"]
Shape = tuple[int, int, int]
"""Height, width and channels of an image."""


@dataclass(frozen=True)
class Recipe:
    """The training of one model. Two equal recipes give equal models from equal subsets and keys."""

    epochs: int = 20
    """Number of passes over the subset; each pass sees every included example exactly once."""
    batch_size: int = 64
    """Number of examples in one step; the last batch of an epoch holds the rest."""
    microbatch: int | None = None
    """Number of examples that go through the network at once, a divisor of `batch_size`; None takes the whole batch.
    The gradients of a batch's parts are added up before the step, so memory grows with the part and not with the batch.
    The sum is the whole batch's gradient up to rounding.
    Batch norm averages over each part, as in PyTorch, and dropout draws for each part.
    No more examples than this are evaluated at once."""
    optimizer: Optimizer = "sgd"
    """Optimizer: "sgd" with momentum, or "adamw" with betas 0.9 and 0.999 and epsilon 1e-8."""
    learning_rate: float = 0.1
    """Peak learning rate."""
    momentum: float = 0.9
    """Momentum of SGD; AdamW ignores it."""
    nesterov: bool = False
    """Use Nesterov's momentum in place of the heavy ball; SGD only."""
    schedule: Schedule = "cosine"
    """Learning rate over the run: "cosine" and "linear" fall to 0, "constant" stays, "step" falls at `milestones`."""
    milestones: tuple[float, ...] = ()
    """Epochs at which the learning rate is multiplied by `decay_factor`; for the schedule "step" only."""
    decay_factor: float = 0.1
    """Factor by which the learning rate is multiplied at each of the `milestones`."""
    warmup_epochs: float = 0.0
    """Number of epochs over which the learning rate rises linearly from 0; the schedule takes the remaining epochs."""
    weight_decay: float = 5e-4
    """Weight decay of every parameter, biases and batch norm included, as in PyTorch.
    SGD adds it to the gradient before momentum; AdamW decouples it and multiplies it by the learning rate."""
    label_smoothing: float = 0.0
    """Share of the target's mass that is spread evenly over all classes."""
    crop_padding: int = 0
    """Number of black pixels added to each side of an image, from which a random crop of the original size is taken."""
    resized_crop: int | None = None
    """Side in pixels of torchvision's RandomResizedCrop, which is then the side of the model's input; None does not crop.
    A window of 8% to 100% of the image's area and of ratio 3:4 to 4:3 is resized to this side.
    The evaluation takes the central square of this side."""
    flip: bool = False
    """Mirror each image with probability 1/2."""
    normalization: Normalization | tuple[tuple[float, float], ...] = "subset"
    """Normalization of pixels: "subset" takes mean and standard deviation of each channel over the model's own subset.
    Those of the whole training set would let an excluded example move weights.
    The choice "none" divides pixels by 255.
    A pair (mean, standard deviation) for each channel normalizes pixels / 255."""
    standardize: bool = False
    """Shift and scale each feature of float inputs by the mean and the standard deviation of each model's own subset."""
    standardize_targets: bool = False
    """Let the network compute regression's numbers in standard deviations of its own subset's targets, around their mean.
    The loss is divided by twice their variance, so that learning rates suit any unit. With several numbers an example the deviation is one
    for all, the root of their mean variance. Outputs and scores keep the unit of the targets."""
    compute_dtype: Dtype = "float32"
    """Dtype of activations and gradients; parameters, batch norm's statistics and logits stay float32."""

    def __post_init__(self) -> None:
        for name, low, high, kind in _RANGES:
            value = getattr(self, name)
            takes = f"{'a whole number' if kind is int else 'a number'} from {low} to {high}"
            check_number(value, f"recipe: {name}", takes, low, high)
            if kind is int and value != int(value):
                raise ValueError(f"recipe: {name} is {value!r}; it takes {takes}.")
            # NumPy's numbers and 2.0 become plain ones: equal recipes must also compile to the same program.
            object.__setattr__(self, name, kind(value))
        self._check_optional_numbers()
        for name in ("nesterov", "flip", "standardize", "standardize_targets"):
            check_switch(getattr(self, name), f"recipe: {name}")
            object.__setattr__(self, name, bool(getattr(self, name)))
        for name, choices in (("optimizer", Optimizer), ("schedule", Schedule), ("compute_dtype", Dtype)):
            check_choice(getattr(self, name), f"recipe: {name}", get_args(choices))
        if self.nesterov and not (self.momentum and self.optimizer == "sgd"):
            raise ValueError(
                "recipe: nesterov is True, a form of SGD's momentum; it takes optimizer='sgd' and momentum above 0."
            )
        self._check_schedule()
        self._check_normalization()

    def _check_optional_numbers(self) -> None:
        for name, high in (("microbatch", _UNBOUNDED), ("resized_crop", 4096)):
            value = getattr(self, name)
            if value is None:
                continue
            takes = f"a whole number from 1 to {high}, or None"
            check_number(value, f"recipe: {name}", takes, 1, high)
            if value != int(value):
                raise ValueError(f"recipe: {name} is {value!r}; it takes {takes}.")
            object.__setattr__(self, name, int(value))
        if self.microbatch is not None and self.batch_size % self.microbatch:
            raise ValueError(
                f"recipe: microbatch is {self.microbatch}, which does not divide the batch_size {self.batch_size}. "
                "Take a divisor, or another batch_size."
            )
        if self.resized_crop is not None and self.crop_padding:
            raise ValueError(
                f"recipe: resized_crop is {self.resized_crop} and crop_padding {self.crop_padding}; a recipe takes one kind "
                "of crop. Leave out the other."
            )

    def _check_schedule(self) -> None:
        # Lists (from JSON, from a user) would make the frozen object unhashable.
        try:
            given: tuple[Any, ...] = tuple(self.milestones)
        except TypeError:
            given = (None,)
        numbers = all(map(is_number, given))
        if not numbers or not all(0 < m <= _UNBOUNDED for m in given):
            error = ValueError if numbers else TypeError
            raise error(
                f"recipe: milestones is {quote(self.milestones)}; it takes epochs above 0, such as (60, 120, 160)."
            )
        object.__setattr__(self, "milestones", tuple(float(m) for m in given))
        if (self.schedule == "step") != bool(self.milestones):
            raise ValueError(
                f"recipe: schedule is {self.schedule!r} and milestones are {self.milestones}; "
                'milestones go with schedule="step", which needs at least one.'
            )
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"recipe: milestones are {self.milestones}; they take rising epochs above 0.")
        if self.warmup_epochs > self.epochs:
            raise ValueError(
                f"recipe: warmup_epochs is {self.warmup_epochs}; it takes a number from 0 to the {self.epochs} epochs."
            )

    def _check_normalization(self) -> None:
        if isinstance(self.normalization, str):
            if self.normalization not in get_args(Normalization):
                raise ValueError(
                    f'recipe: normalization is {self.normalization!r}; it takes "subset", "none" or '
                    "(mean, standard deviation) for each channel."
                )
            return
        try:
            given = tuple((mean, deviation) for mean, deviation in self.normalization)
        except (TypeError, ValueError):
            given = ()
        numbers = given and all(is_number(value) for pair in given for value in pair)
        if not numbers or not all(abs(mean) <= _UNBOUNDED and 0 < deviation <= _UNBOUNDED for mean, deviation in given):
            raise ValueError(
                f"recipe: normalization is {self.normalization!r}; it takes (mean, standard deviation) for each channel, "
                "of pixels scaled to 0..1, the deviation above 0."
            )
        pairs = tuple((float(mean), float(deviation)) for mean, deviation in given)
        object.__setattr__(self, "normalization", pairs)

    def input_shape(self, image_shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """Height, width and channels of the model's input, for images of one shape."""
        return image_shape if self.resized_crop is None else (self.resized_crop, self.resized_crop, image_shape[2])

    def to_dict(self) -> dict[str, Any]:
        """Turn the recipe into plain values for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Recipe":
        """Make the recipe that `to_dict` described, also from JSON."""
        return cls(**values)


_UNBOUNDED = 10**9
_RANGES: tuple[tuple[str, float, float, type[int] | type[float]], ...] = (
    ("epochs", 0, _UNBOUNDED, int),
    ("batch_size", 1, _UNBOUNDED, int),
    ("learning_rate", 0.0, 1e6, float),
    ("momentum", 0.0, 1.0, float),
    ("decay_factor", 0.0, 1.0, float),
    ("warmup_epochs", 0.0, _UNBOUNDED, float),
    ("weight_decay", 0.0, 1e6, float),
    ("label_smoothing", 0.0, 1.0, float),
    ("crop_padding", 0, 1024, int),
)


def bounds(name: str) -> tuple[float, float]:
    """Least and greatest value of a numeric field."""
    return next((low, high) for field, low, high, _ in _RANGES if field == name)
