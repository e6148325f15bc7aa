"""`membership`: each model of an ensemble as the target once; `membership_score`: targets that were trained elsewhere."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Bool, Float

from jaxinfl.arguments import check_choice, check_number, quote
from jaxinfl.arguments.arrays import as_array, check_masks, check_score
from jaxinfl.influence.outcomes import Runs
from jaxinfl.notebook import html_facts, html_table
from jaxinfl.privacy.curve import Curve, OperatingPoint, Rate
from jaxinfl.privacy.lira import Lira, Scores
from jaxinfl.privacy.risk import Risk, measure_risk
from jaxinfl.privacy.rmia import Population, Rmia
from jaxinfl.tasks import is_lower_better

_SHOWN_SIZE = 4_000_000
"""Pairs of a target and an example up to which a notebook shows rates: more would take seconds."""
Method = Literal["lira", "lira_offline", "rmia", "rmia_offline", "threshold"]
"""The attacks: the likelihood ratio and the robust one, each with shadows that saw the example or without, and one threshold for all."""
Attack = Method | Lira | Rmia
"""An attack by its name, or a variant of one."""
_VARIANTS: dict[str, "Lira | Rmia | None"] = {
    "lira": Lira(),
    "lira_offline": Lira(offline="upper_tail"),
    "rmia": Rmia(),
    "rmia_offline": Rmia(offline=0.3),
    "threshold": None,
}
_PAIRED_VARIANCE = 3.0
"""Factor of the variance over targets of LiRA with models that saw the example. Two models count twice there, each as the other's shadow,
of which the jackknife over targets sees half. In simulations of 24 and 64 models without leaks the deviation was 1.4 to 1.7 times the
jackknife's, and with leaks 1.1 to 1.5 times."""


@dataclass(frozen=True)
class Membership:
    """What an attack says about every pair of a target and an example."""

    score: Float[np.ndarray, "targets examples"]
    """The attack's score, larger where the example is likelier a member; NaN where no shadow saw the example, or all did, and where
    a side has one shadow of which an example's own deviation would be told."""
    member: Bool[np.ndarray, "targets examples"]
    """Whether the target was trained on the example."""
    method: Attack
    """The attack."""
    own_score: Float[np.ndarray, "targets examples"]
    """What the targets themselves say of the examples, as it was given; the mean over views."""
    confidence: float = 0.95
    """Confidence of all intervals. They are over targets: others trained likewise on other subsets of the same data."""

    @cached_property
    def _curve(self) -> Curve:
        online = self.method == "lira" or (isinstance(self.method, Lira) and self.method.offline is None)
        return Curve(self.score, self.member, self.confidence, _PAIRED_VARIANCE if online else 1.0)

    @property
    def roc(self) -> tuple[Float[np.ndarray, " points"], Float[np.ndarray, " points"]]:
        """Rates of false alarms and of members told over all thresholds, from (0, 0) to (1, 1)."""
        return self._curve.roc

    @property
    def auc(self) -> Rate:
        """Probability that a member's score is above a non-member's, over all pairs; 0.5 is chance."""
        return self._curve.auc

    @property
    def balanced_accuracy(self) -> Rate:
        """Highest mean of the shares of members and non-members that one threshold tells."""
        return self._curve.balanced_accuracy

    def tpr(self, fpr: float) -> OperatingPoint:
        """The share of members that is told where the rate of false alarms is below `fpr`, such as 0.01 or 0.001.

        It says how many false alarms, targets and examples the rate rests on, and is NaN, with the reason, where it rests on nothing.

        Raises:
          TypeError, ValueError: `fpr` is no number above 0 and at most 1.
        """
        check_number(fpr, "fpr", "a number above 0, at most 1", 0.0, 1.0)
        if fpr == 0:
            raise ValueError("fpr is 0; it takes a number above 0, at most 1.")
        return self._curve.at(float(fpr))

    def rates(self, false_alarms: Sequence[float] = (0.001, 0.01, 0.1)) -> dict[str, Rate]:
        """How well membership is told, each rate by its name, with the share of members told at each of these rates of false alarms.

        Raises:
          TypeError, ValueError: one of `false_alarms` is no number above 0 and at most 1.
        """
        told = {f"members told at {fpr:.1%} false alarms": self.tpr(fpr).tpr for fpr in false_alarms}
        return {"AUC": self.auc, "balanced accuracy": self.balanced_accuracy} | told

    @cached_property
    def risk(self) -> Risk:
        """The risk of each example over the targets, by what they themselves say of it.

        The attack's scores would not do: a target's shadows are the other targets, and for an example without a leak that orders members
        behind non-members.
        """
        return measure_risk(self.own_score, self.member, self.confidence)

    def _repr_html_(self) -> str:
        targets, examples = self.score.shape
        name = self.method if isinstance(self.method, str) else repr(self.method)
        title = f"Membership by {name}: {targets} targets, {examples} examples"
        if self.score.size > _SHOWN_SIZE:
            return html_facts(title, {"rates": "are computed by .auc, .balanced_accuracy and .tpr(0.01)"})
        rows = [(name, *rate) for name, rate in self.rates((0.001, 0.01)).items()]
        note = f"The confidence of the intervals is {self.confidence:.0%}; they are over targets."
        return html_table(("", "value", "low", "high"), rows, title=title, note=note)


def membership(
    masks: Any,
    score: Any = None,
    *,
    population: Any = None,
    method: Attack = "lira",
    confidence: float = 0.95,
) -> Membership:
    """Tell which examples each model of an ensemble was trained on, from what it and the others say about them.

    Each model is the target once, and the others are its shadows. Time grows with models times examples, and so does the memory of the
    result; the work is done for some hundred examples at a time.

    Args:
      masks: bool [models, train], `masks[t, i]` says whether model t was trained on example i; or an `Ensemble`, whose diverged models
        are left out. Every second example in each subset is best: `draw_subsets(models, train, ratio=0.5, design="balanced")`.
      score: float [models, train], model t's score on training example i, larger where it fits the example better; or
        [views, models, train] for several views of each example. LiRA takes margins, log(p / (1 - p)), which are nearly normal, and
        RMIA takes probabilities. For an `Ensemble` the name of a score; None takes "margin", or "probability" for RMIA.
      population: probabilities [models, examples] (or with views) of examples that no model was trained on, for RMIA. For an `Ensemble`
        None takes its test examples.
      method: the attack. "lira" compares with models that saw the example and models that did not, "lira_offline" with the latter
        alone, and so do "rmia" and "rmia_offline" with a population. "threshold" tells membership by the target's score alone. `Lira(...)`
        and `Rmia(...)` are the same attacks with other choices, such as a deviation that all examples share.
      confidence: confidence of all intervals.

    Raises:
      TypeError, ValueError: shapes that do not fit, NaN, probabilities outside of 0 and 1, fewer than two models, or a population that
        is missing or given to another attack than RMIA.

    Source: Carlini et al. (2022) for "lira", Zarifzadeh et al. (2024) for "rmia", Yeom et al. (2018) for "threshold".
    """
    attack = _check_method(method)
    check_number(confidence, "confidence", "a number above 0 and below 1", 0.0, 1.0, inside=True)
    checked, views, others = _take(masks, score, population, attack)
    if len(checked) < 2:
        raise ValueError(
            "masks has 1 model; membership takes at least 2, each of which is the target of the others once."
        )
    scores = Scores(checked, views)
    told = _attack(attack, scores, Population(others) if others is not None else None)
    return Membership(told, checked, method, _mean_of_views(scores), float(confidence))


def membership_score(
    masks: Any,
    score: Any,
    target_score: ArrayLike,
    *,
    population: Any = None,
    target_population: ArrayLike | None = None,
    method: Attack = "lira",
) -> Float[np.ndarray, "targets train"]:
    """Tell the membership of each example in models that were trained elsewhere, against the models of an ensemble.

    Args:
      masks, score, population, method: as in `membership`; all models of the ensemble are shadows.
      target_score: float [targets, train] or [train], the targets' scores on the same examples, of the same kind as `score`; with
        views [views, targets, train].
      target_population: probabilities of the population by the targets, [targets, examples], for RMIA.

    Returns:
      float64 [targets, train], larger where the example is likelier a member; NaN where no shadow saw the example, or all did.

    Raises:
      TypeError, ValueError: as `membership`.
    """
    attack = _check_method(method)
    checked, views, others = _take(masks, score, population, attack)
    given = _as_views(target_score, "target_score", None, checked.shape[1], len(views))
    compared = None
    if others is not None:
        if target_population is None:
            raise ValueError(
                "target_population is None; RMIA takes the targets' probabilities of the population, [targets, examples]."
            )
        size = others[0].shape[1]
        compared = _as_views(target_population, "target_population", len(given[0]), size, len(views))
        _check_probabilities(given, "target_score")
        _check_probabilities(compared, "target_population")
    elif target_population is not None:
        raise ValueError("target_population is given; only RMIA takes one. Leave it out, or take method='rmia'.")
    return _attack(attack, Scores(checked, views, given), Population(others, compared) if others is not None else None)


def _attack(
    attack: Lira | Rmia | None, scores: Scores, population: Population | None
) -> Float[np.ndarray, "targets examples"]:
    if isinstance(attack, Lira):
        return attack.membership(scores)
    if attack is not None:
        assert population is not None
        return attack.membership(scores, population)
    return _mean_of_views(scores)


def _mean_of_views(scores: Scores) -> Float[np.ndarray, "targets examples"]:
    """What the targets say of the examples."""
    views = scores.views if scores.targets is None else scores.targets
    return np.asarray(np.mean(np.stack(list(views)), axis=0, dtype=np.float64))


def _check_method(method: Any) -> Lira | Rmia | None:
    """The variant of an attack that a method names."""
    if isinstance(method, (Lira, Rmia)):
        return method
    check_choice(method, "method", get_args(Method))
    return _VARIANTS[method]


Views = list[Float[np.ndarray, "models examples"]]


def _take(
    masks: Any, score: Any, population: Any, attack: Lira | Rmia | None
) -> tuple[np.ndarray, Views, Views | None]:
    """Masks, scores and population of the shadows, checked."""
    robust = isinstance(attack, Rmia)
    if population is not None and not robust:
        raise ValueError("population is given; only RMIA takes one. Leave it out, or take method='rmia'.")
    if isinstance(masks, Runs):
        name = ("probability" if robust else "margin") if score is None else score
        if not isinstance(name, str):
            raise TypeError(f"score is {quote(name)}; for an Ensemble it takes the name of a score, such as 'margin'.")
        runs = masks.without_diverged()
        sign = -1 if is_lower_better(name) else 1
        given: Any = sign * np.asarray(runs.train_score(name), np.float32)
        if robust and population is None:
            population = runs.test_score(name)
        masks, score = runs.masks, given
    checked = check_masks(masks)
    if score is None:
        raise TypeError(
            "score is None; it takes floats [models, train], or the name of a score where masks is an Ensemble."
        )
    views = _as_views(score, "score", *checked.shape)
    if not robust:
        return checked, views, None
    if population is None:
        raise ValueError(
            "population is None; RMIA takes probabilities [models, examples] of examples that no model was trained on. Give them, or "
            "take method='lira'."
        )
    others = _as_views(population, "population", len(checked), None, len(views))
    _check_probabilities(views, "score")
    _check_probabilities(others, "population")
    return checked, views, others


def _as_views(value: Any, name: str, rows: int | None, columns: int | None, views: int | None = None) -> Views:
    """Scores as one finite array [models, examples] for each view."""
    if isinstance(value, str):
        raise TypeError(
            f"{name} is {quote(value)}, the name of a score, and masks is no Ensemble; it takes floats, a row a model."
        )
    array = as_array(value, name, "floats, a row a model")
    if name.startswith("target_") and array.ndim == 1:  # one target
        array = array[None]
    if array.ndim not in (2, 3):
        raise ValueError(f"{name} has shape {array.shape}; it takes [models, examples], or [views, models, examples].")
    each = list(array) if array.ndim == 3 else [array]
    if not each or (views is not None and len(each) != views):
        raise ValueError(f"{name} has {len(each)} views; it takes {views or 'one or more'}, as many as score has.")
    return [
        np.asarray(check_score(view, len(view) if rows is None else rows, name, columns), np.float32) for view in each
    ]


def _check_probabilities(views: Sequence[np.ndarray], name: str) -> None:
    low, high = min(float(view.min()) for view in views), max(float(view.max()) for view in views)
    if low < 0 or high > 1:
        raise ValueError(
            f"{name} holds values from {low:g} to {high:g}; RMIA takes probabilities, from 0 to 1. Those of margins are "
            "1 / (1 + exp(-margin))."
        )


__all__ = ["Attack", "Membership", "Method", "membership", "membership_score"]
