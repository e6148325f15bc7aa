"""Recipe: everything that decides how one model is trained, in one frozen, hashable object."""

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
    """How one model is trained. Two equal recipes give equal models from equal subsets and keys."""

    epochs: int = 20
    """Passes over the subset; every included example is seen exactly once in each."""
    batch_size: int = 64
    """Examples a step; the last batch of an epoch holds what is left."""
    microbatch: int | None = None
    """Examples that go through the network at once, a divisor of `batch_size`: the gradients of a batch's parts are added
    up before the step, so that memory grows with the part. The sum is the whole batch's gradient up to rounding, whatever
    the parts are, the last and smaller one too; batch norm, though, averages over each part, as in PyTorch, and dropout
    draws for each. As many are evaluated at once, at most. None: the whole batch."""
    optimizer: Optimizer = "sgd"
    """"sgd" with momentum, or "adamw" (betas 0.9 and 0.999, epsilon 1e-8)."""
    learning_rate: float = 0.1
    """Peak learning rate."""
    momentum: float = 0.9
    """Momentum of SGD; without effect for AdamW."""
    nesterov: bool = False
    """Nesterov's momentum in place of the heavy ball (SGD)."""
    schedule: Schedule = "cosine"
    """Learning rate over the run: "cosine" or "linear" to 0, "constant", or "step" (see `milestones`)."""
    milestones: tuple[float, ...] = ()
    """Epochs from which on the learning rate is multiplied by `decay_factor` once more ("step" only)."""
    decay_factor: float = 0.1
    """See `milestones`."""
    warmup_epochs: float = 0.0
    """Linear warm-up from 0; the schedule's remainder follows over what is left of the epochs."""
    weight_decay: float = 5e-4
    """Weight decay of every parameter, biases and batch norm included, as in PyTorch: added to the gradient before momentum (SGD),
    or decoupled and multiplied by the learning rate (AdamW)."""
    label_smoothing: float = 0.0
    """Share of the target's mass spread evenly over all classes."""
    crop_padding: int = 0
    """Random crops of the original size from images padded with this many black pixels a side."""
    resized_crop: int | None = None
    """Side of torchvision's RandomResizedCrop: a window of 8% to 100% of the image's area and of ratio 3:4 to 4:3, brought
    to this many pixels squared; evaluated is the central square of this side. The model's input has this side then."""
    flip: bool = False
    """Mirror each image with probability 1/2."""
    normalization: Normalization | tuple[tuple[float, float], ...] = "subset"
    """"subset": by each model's own subset's mean and standard deviation a channel (those of the whole training set
    would let an excluded example move weights); "none": pixels / 255; or (mean, standard deviation) of pixels / 255 for
    each channel."""
    compute_dtype: Dtype = "float32"
    """Dtype of activations and gradients; parameters, batch norm's statistics and logits stay float32."""

    def __post_init__(self) -> None:
        for name, low, high, kind in _RANGES:
            value = getattr(self, name)
            takes = f"{'a whole number' if kind is int else 'a number'} from {low} to {high}"
            check_number(value, f"recipe: {name}", takes, low, high)
            if kind is int and value != int(value):
                raise ValueError(f"recipe: {name} is {value!r}; it takes {takes}.")
            # 2.0 and NumPy's numbers become plain ones: equal recipes must also compile to the same program.
            object.__setattr__(self, name, kind(value))
        self._check_optional_numbers()
        for name in ("nesterov", "flip"):
            check_switch(getattr(self, name), f"recipe: {name}")
            object.__setattr__(self, name, bool(getattr(self, name)))
        for name, choices in (("optimizer", Optimizer), ("schedule", Schedule), ("compute_dtype", Dtype)):
            check_choice(getattr(self, name), f"recipe: {name}", get_args(choices))
        if self.nesterov and not (self.momentum and self.optimizer == "sgd"):
            raise ValueError(
                "recipe: nesterov is a form of SGD's momentum; it takes optimizer='sgd' and momentum above 0."
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
                "of crop."
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
            raise error(f"recipe: milestones is {quote(self.milestones)}; it takes epochs above 0, as (60, 120, 160).")
        object.__setattr__(self, "milestones", tuple(float(m) for m in given))
        if (self.schedule == "step") != bool(self.milestones):
            raise ValueError(
                f"recipe: schedule is {self.schedule!r} and milestones are {self.milestones}; "
                'milestones go with schedule="step", which needs at least one.'
            )
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"recipe: milestones are {self.milestones}; they take rising epochs above 0.")
        if self.warmup_epochs > self.epochs:
            raise ValueError(f"recipe: warmup_epochs is {self.warmup_epochs}, more than the {self.epochs} epochs.")

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
        """(height, width, channels) of what the model sees of images of one shape."""
        return image_shape if self.resized_crop is None else (self.resized_crop, self.resized_crop, image_shape[2])

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Recipe":
        """The recipe that `to_dict` described, also after a way through JSON."""
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
