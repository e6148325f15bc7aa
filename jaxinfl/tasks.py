"""What a target means: the loss of an example, and the scores by which a model is judged on it.

A task is a value with pure functions of a batch of outputs and targets, each of which gives one number an example. The sums
over a batch, and what is left out of them because it fills up a batch, are the trainer's.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from jaxinfl.arguments import check_number, check_score_names, check_whole, quote

Function = Callable[[Any, Any], Array]
"""A function of outputs [batch, ...] and targets [batch, ...] that gives one number an example, [batch]."""


class Task:
    """What targets mean. Own tasks are made by `Task(name, loss=..., scores={...})`.

    Attributes:
      name: the name that a run records.
      loss: `loss(outputs, targets) -> [batch]`, what training makes small, on average over the examples.
      scores: functions by name, `f(outputs, targets) -> [batch]`; bool for right or wrong, floats otherwise. A run stores them,
        and `Ensemble.test_score(name)` gives them back. The name "loss" needs no function: it is the loss.
    """

    smooths_labels = False
    """Whether `Recipe.label_smoothing` has a meaning."""

    def __init__(self, name: str, *, loss: Function, scores: Mapping[str, Function] | None = None):
        """A task of a user's own.

        Raises:
          TypeError: `name` is no string, `loss` cannot be called, or `scores` is no mapping from names to functions.
          ValueError: a score's name is no identifier, is that of another array of a run, or differs from another in case alone.
        """
        if not isinstance(name, str):
            raise TypeError(f"name is {quote(name)}; it takes a string, the task's name.")
        if not callable(loss):
            raise TypeError(f"loss is {quote(loss)}; it takes a function of outputs and targets that gives [batch].")
        if scores is not None and not isinstance(scores, Mapping):
            raise TypeError(f"scores is {quote(scores)}; it takes a mapping from names to functions.")
        check_score_names(scores or {}, "scores")
        for score, function in (scores or {}).items():
            if not callable(function):
                raise TypeError(f"scores[{score!r}] is {quote(function)}; it takes a function of outputs and targets.")
        lower = [score.lower() for score in scores or {}]
        if len(set(lower)) < len(lower):
            # Arrays are folders, which many disks take for the same.
            raise ValueError(
                f"scores has the names {', '.join(scores or {})}; it takes names that differ by more than case."
            )
        if (scores or {}).get("loss", loss) is not loss:
            raise ValueError(
                "scores has another function as 'loss'; that name is the loss itself. Give the score another name."
            )
        self.name, self.loss, self.scores = name, loss, {"loss": loss} | dict(scores or {})

    def __repr__(self) -> str:
        return f"Task({self.name!r}, scores={tuple(self.scores)})"

    def smoothed_loss(self, outputs: Any, targets: Any, label_smoothing: Any) -> Array:
        """The loss that is trained; `label_smoothing` has no meaning but where `smooths_labels`."""
        return self.loss(outputs, targets)

    @property
    def recorded(self) -> tuple[str, ...]:
        """Names of what a run stores."""
        return tuple(sorted(self.scores))

    def record(self, outputs: Any, targets: Any) -> dict[str, Array]:
        """What a run stores of each example, [batch] each by name, in the order of the names."""
        return {name: self.scores[name](outputs, targets) for name in sorted(self.scores)}

    def derive(self, name: str, read: Callable[[str], np.ndarray], targets: np.ndarray) -> np.ndarray:
        """A score of many models, [models, examples], from what was stored; `read(name)` reads one array of it."""
        return read(name)


class Classification(Task):
    """One of several classes an example. Margins are exact, and the other scores follow from them."""

    def __reduce__(self) -> str:
        # By name, because there is one such task, and it is told by identity.
        return "CLASSIFICATION"

    smooths_labels = True

    def __init__(self) -> None:
        super().__init__(
            "classification",
            loss=_cross_entropy,
            scores={
                "correct": lambda logits, labels: jnp.argmax(logits, axis=-1) == labels,
                "margin": margin,
                "probability": lambda logits, labels: jax.nn.sigmoid(margin(logits, labels)),
            },
        )

    def smoothed_loss(self, outputs: Any, targets: Any, label_smoothing: Any) -> Array:
        # One-hot targets: the gradient of an indexed loss is a scatter, which XLA runs one element at a time on CPUs.
        one_hot = jax.nn.one_hot(targets, outputs.shape[-1], dtype=jnp.float32)
        return optax.softmax_cross_entropy(outputs, optax.smooth_labels(one_hot, label_smoothing))

    @property
    def recorded(self) -> tuple[str, ...]:
        return "margin", "prediction"

    def record(self, outputs: Any, targets: Any) -> dict[str, Array]:
        prediction = jnp.argmax(outputs, axis=-1).astype(jnp.int32)
        return {"margin": margin(outputs, targets), "prediction": prediction}

    def derive(self, name: str, read: Callable[[str], np.ndarray], targets: np.ndarray) -> np.ndarray:
        if name == "correct":
            return read("prediction") == targets[None, :]
        found = read("margin")
        if name == "margin":
            return found
        from scipy.special import expit, log_expit  # 0.15 s, for which training need not wait

        result: np.ndarray = expit(found) if name == "probability" else -log_expit(found)
        return result


def margin(logits: Array, labels: Array) -> Array:
    """log(p_y / (1 - p_y)) = z_y - logsumexp of the other logits: no probability near 1 is ever rounded."""
    true = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
    own = jnp.sum(jnp.where(true, logits, 0), axis=-1)
    return own - jax.nn.logsumexp(jnp.where(true, -jnp.inf, logits), axis=-1)


def _cross_entropy(outputs: Any, targets: Any) -> Array:
    return optax.softmax_cross_entropy_with_integer_labels(outputs, targets)


class Regression(Task):
    """Numbers, one an example or several: squared error, or Huber's loss from a distance on.

    The scores are "loss", and for one number an example "prediction" and "residual" (target minus prediction), for several
    "residual_norm" and "prediction_0", "prediction_1", ...
    """

    def __init__(self, num_targets: int = 1, huber: float | None = None):
        """`huber`: the distance from which on the loss grows linearly; None squares every error."""
        self.num_targets, self.huber = num_targets, huber
        scores: dict[str, Function] = {"residual_norm": self._residual_norm}
        if num_targets == 1:
            scores = {"prediction": _predict_column(0), "residual": self._residual}
        else:
            scores |= {f"prediction_{column}": _predict_column(column) for column in range(num_targets)}
        super().__init__("regression" if huber is None else "huber", loss=self._loss, scores=scores)

    def __reduce__(self) -> tuple[Any, ...]:
        return Regression, (self.num_targets, self.huber)

    def _errors(self, outputs: Array, targets: Array) -> Array:
        return targets.reshape(len(targets), -1).astype(jnp.float32) - outputs.reshape(len(outputs), -1)

    def _loss(self, outputs: Array, targets: Array) -> Array:
        errors = self._errors(outputs, targets)
        each = jnp.square(errors) if self.huber is None else optax.huber_loss(errors, delta=self.huber)
        return jnp.sum(each, axis=-1)

    def _residual(self, outputs: Array, targets: Array) -> Array:
        return self._errors(outputs, targets)[:, 0]

    def _residual_norm(self, outputs: Array, targets: Array) -> Array:
        return jnp.sqrt(jnp.sum(jnp.square(self._errors(outputs, targets)), axis=-1))


def _predict_column(column: int) -> Function:
    return lambda outputs, targets: outputs.reshape(len(outputs), -1)[:, column]


class Binary(Task):
    """Several independent labels an example, each true or not; outputs are one logit a label.

    The loss is the sum over the labels. The scores are "correct" (all labels are right), "margin" (log odds of the true
    value, the smallest over the labels), "probability" (that all labels are right) and "loss".
    """

    def __reduce__(self) -> str:
        return "BINARY"

    def __init__(self) -> None:
        super().__init__(
            "binary",
            loss=self._loss,
            scores={"correct": self._correct, "margin": self._margin, "probability": self._probability},
        )

    def _signed(self, outputs: Array, targets: Array) -> Array:
        signs = jnp.where(targets.reshape(len(targets), -1).astype(bool), 1.0, -1.0)
        return signs * outputs.reshape(len(outputs), -1)

    def _loss(self, outputs: Array, targets: Array) -> Array:
        return -jnp.sum(jax.nn.log_sigmoid(self._signed(outputs, targets)), axis=-1)

    def _correct(self, outputs: Array, targets: Array) -> Array:
        return jnp.all(self._signed(outputs, targets) > 0, axis=-1)

    def _margin(self, outputs: Array, targets: Array) -> Array:
        return jnp.min(self._signed(outputs, targets), axis=-1)

    def _probability(self, outputs: Array, targets: Array) -> Array:
        return jnp.exp(-self._loss(outputs, targets))


class NextToken(Task):
    """The next token of a sequence at every place; outputs are logits [batch, length, tokens], targets tokens [batch, length].

    A negative target is padding and counts nowhere. The loss of a sequence is the mean over its tokens, and "accuracy" the share
    of them that is right; a sequence without a token has the loss 0 and the accuracy 1.
    """

    def __reduce__(self) -> str:
        return "NEXT_TOKEN"

    def __init__(self) -> None:
        super().__init__("next_token", loss=self._loss, scores={"accuracy": self._accuracy})

    def _mean(self, values: Array, targets: Array, empty: float) -> Array:
        real = targets >= 0
        count = jnp.sum(real, axis=-1)
        total = jnp.sum(jnp.where(real, values, 0.0), axis=-1)
        return jnp.where(count > 0, total / jnp.maximum(count, 1).astype(jnp.float32), empty)

    def _loss(self, outputs: Array, targets: Array) -> Array:
        one_hot = jax.nn.one_hot(targets, outputs.shape[-1], dtype=jnp.float32)
        return self._mean(optax.softmax_cross_entropy(outputs, one_hot), targets, 0.0)

    def _accuracy(self, outputs: Array, targets: Array) -> Array:
        right = jnp.argmax(outputs, axis=-1) == targets
        return self._mean(right.astype(jnp.float32), targets, 1.0)


CLASSIFICATION = Classification()
BINARY = Binary()
NEXT_TOKEN = NextToken()
TaskName = Literal["classification", "regression", "binary", "next_token"]
"""The names of the built-in tasks."""
TASK_NAMES: tuple[str, ...] = get_args(TaskName)
BOUNDED = frozenset({"probability", "accuracy"})
"""Built-in scores between 0 and 1."""
LOWER_IS_BETTER = frozenset({"loss", "residual_norm"})
"""Scores that are smaller where a model does better, and where it was trained on the example."""


def is_lower_better(score: str) -> bool:
    """Whether good models make the score small, in the end or after an earlier epoch, as in "loss@5"."""
    return score.partition("@")[0] in LOWER_IS_BETTER


def huber(delta: float = 1.0, num_targets: int = 1) -> Task:
    """Regression by Huber's loss: squared up to an error of `delta`, linear from there.

    Raises:
      TypeError, ValueError: `delta` is no finite number above 0, or `num_targets` no whole number from 1 up.

    Source: Huber (1964), "Robust estimation of a location parameter", Annals of Mathematical Statistics 35.
    """
    check_number(delta, "delta", "a finite number above 0", 1e-300, 1e300)
    return Regression(check_whole(num_targets, "num_targets", 1, 10**6, "numbers an example"), float(delta))


__all__ = [
    "BINARY",
    "BOUNDED",
    "CLASSIFICATION",
    "LOWER_IS_BETTER",
    "NEXT_TOKEN",
    "TASK_NAMES",
    "Regression",
    "Task",
    "TaskName",
    "huber",
    "is_lower_better",
    "margin",
]
