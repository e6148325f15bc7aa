"""Everything that the page says, packed as JSON with arrays as base64 text."""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from jaxinfl.explore.examples import Score, TrainExamples, Votes
from jaxinfl.explore.inputs import SHEET_SIDE, Shown
from jaxinfl.explore.partners import FDR, AllPartners, Partners
from jaxinfl.privacy import Risk
from jaxinfl.statistics import newcombe_interval
from jaxinfl.statistics.proportions import normal_quantile

_STEPS = 32767
_SHARES = 1001
"""Shares that are tried to find the ends of a band."""
_LONGEST_TARGET = 3
"""Numbers of a target that are written; longer targets, such as sequences, are left out."""


@dataclass(frozen=True)
class Side:
    """One of the two sets of examples."""

    count: int
    """Number of examples."""
    targets: np.ndarray | None
    """Labels, or other targets; None where they are not known."""
    votes: Votes | None
    """What the models predict; None where nothing is right or wrong."""


@dataclass(frozen=True)
class Explored:
    """Everything that was computed."""

    name: str
    """Name of the data."""
    score: Score
    num_models: int
    """Number of models that did not diverge."""
    num_diverged: int
    classes: Sequence[str]
    """Name of each class; empty where targets are no classes."""
    train: Side
    test: Side
    num_in: Int[np.ndarray, " train"]
    """Number of models that were trained on each training example."""
    memorized: TrainExamples | None
    """Memorization; None where the models have no score of training examples."""
    test_mean: Float[np.ndarray, " test"] | None
    """Mean score of all models on each test example; None where they have none."""
    risk: Risk | None
    """Membership risk of each training example; None where it was not computed."""
    risk_q: Float[np.ndarray, " train"] | None
    """The smallest false discovery rate at which each example would be reported as one at risk."""
    partners: AllPartners | None
    asked_partners: int
    """Number of partners that was asked for."""
    kept_partners: int
    """Number of partners that the page has room for."""


def pack_content(explored: Explored, shown: Shown, notes: Sequence[str]) -> dict[str, Any]:
    """Pack what the scripts of the page read, as JSON values; `notes` is what is left out, a sentence each."""
    partners, reasons = explored.partners, _reasons(explored)
    classes = bool(explored.classes)
    return {
        "score": {"name": explored.score.name, "kind": explored.score.kind, "words": explored.score.words},
        "models": explored.num_models,
        "fdr": FDR,
        "classes": list(explored.classes),
        "train": _pack_side(explored.train, _train_values(explored, reasons), classes),
        "test": _pack_side(explored.test, {"mean": explored.test_mean}, classes),
        "bands": _bands(explored),
        "confidence": None
        if partners is None
        else {"train": _percent(partners.confidence_of_train), "test": _percent(partners.confidence_of_test)},
        "discovered": None if partners is None else partners.num_discovered,
        "reasons": reasons,
        "partners": None
        if partners is None
        else {
            "train": [_pack_partners(each, reasons) for each in (partners.helped_by_train, partners.hurt_by_train)],
            "test": [_pack_partners(each, reasons) for each in (partners.for_test, partners.against_test)],
        },
        "texts": [[name, list(texts)] for name, texts in shown.texts],
        "columns": [[name, _pack(np.asarray(values, "<f4"))] for name, values in shown.columns],
        "sprites": None
        if shown.sprites is None
        else {
            "width": shown.sprites.width,
            "height": shown.sprites.height,
            "side": SHEET_SIDE,
            "mime": shown.sprites.mime,
        },
        "notes": list(notes),
    }


def _percent(confidence: float) -> str:
    """A confidence with as many digits as tell it from 100%."""
    digits = max(1, 1 - math.floor(math.log10(max(100 * (1 - confidence), 1e-9))))
    return f"{100 * confidence:.{digits}f}%"


def _train_values(explored: Explored, reasons: Sequence[str]) -> dict[str, np.ndarray | None]:
    values: dict[str, np.ndarray | None] = {"num_in": explored.num_in}
    if explored.memorized is not None:
        told = explored.memorized
        values |= {"mean_out": told.mean_out, "memorization": told.memorization, "low": told.low, "high": told.high}
        values |= {"q": told.q_value, "reason": _numbers_of(told.reason, reasons)}
    if explored.risk is not None:
        values |= {"risk": explored.risk.told_apart, "risk_low": explored.risk.low, "risk_high": explored.risk.high}
        values["risk_q"] = explored.risk_q
    return values


def _pack_side(side: Side, values: Mapping[str, np.ndarray | None], classes: bool) -> dict[str, Any]:
    told: dict[str, np.ndarray | None] = dict(values)
    if side.votes is not None:
        votes = side.votes
        told |= {"right": votes.right, "right_low": votes.low, "right_high": votes.high}
        told |= {"other": votes.other, "other_share": votes.other_share, "suspect": votes.suspect}
        told |= {"other_low": votes.other_low, "other_high": votes.other_high}
    targets = None
    if classes and side.targets is not None:
        told["classes"] = side.targets
    elif side.targets is not None and side.targets[:1].size <= _LONGEST_TARGET:
        targets = [", ".join(f"{value:.4g}" for value in np.ravel(row).tolist()) for row in side.targets]
    packed = {name: _pack(_as_number(array)) for name, array in told.items() if array is not None}
    return {"count": side.count, "targets": targets, "values": packed}


def _as_number(array: np.ndarray) -> np.ndarray:
    return np.asarray(array, "<f4" if array.dtype.kind == "f" else "<i4")


def _pack(array: np.ndarray) -> dict[str, Any]:
    kind = "float32" if array.dtype.kind == "f" else "int32"
    return {"type": kind, "bytes": _as_text(array)}


def _pack_steps(array: Float[np.ndarray, "examples partners"]) -> dict[str, Any]:
    """Numbers in steps of 1/32767 of the largest: half of the bytes of floats, and finer than what is written."""
    scale = float(np.max(np.abs(array), initial=0.0, where=np.isfinite(array))) / _STEPS or 1.0
    steps = np.where(np.isfinite(array), np.rint(np.nan_to_num(array) / scale), -_STEPS - 1)
    return {"type": "steps", "scale": scale, "bytes": _as_text(steps.astype("<i2"))}


def _pack_partners(partners: Partners, reasons: Sequence[str]) -> dict[str, Any]:
    return {
        "width": partners.partner.shape[1],
        "index": _pack(np.asarray(partners.partner, "<i4")),
        "influence": _pack_steps(partners.influence),
        "low": _pack_steps(partners.low),
        "high": _pack_steps(partners.high),
        "q": _pack_steps(partners.q_value),
        "reason": {"type": "int8", "bytes": _as_text(_numbers_of(partners.reason, reasons).astype("<i1"))},
    }


def _reasons(explored: Explored) -> list[str]:
    """Why intervals are missing, each reason once; the first is that none is."""
    partners = explored.partners
    told = [] if explored.memorized is None else [explored.memorized.reason]
    if partners is not None:
        every = (partners.helped_by_train, partners.hurt_by_train, partners.for_test, partners.against_test)
        told += [each.reason for each in every]
    found = np.unique(np.concatenate([np.unique(each) for each in told])) if told else np.zeros(0, str)
    return ["", *(str(each) for each in found if each)]


def _numbers_of(reason: np.ndarray, reasons: Sequence[str]) -> np.ndarray:
    """The place of each reason in the list."""
    distinct, inverse = np.unique(reason, return_inverse=True)
    places = np.array([reasons.index(str(each)) for each in distinct], np.int32)
    return places[inverse.reshape(reason.shape)]


def _as_text(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def _bands(explored: Explored) -> dict[str, list[dict[str, float]]]:
    """Where 95% of the examples would be if nothing were memorized, by what the height of a point is.

    For a typical number of models with an example: of 0-1 scores where the 95% interval of the memorization contains 0, of risk by the
    variance of the rank-sum statistic.
    """
    bands: dict[str, list[dict[str, float]]] = {}
    inside = float(np.median(explored.num_in))
    outside = explored.num_models - inside
    if explored.memorized is None or inside == 0 or outside == 0:
        return bands
    if explored.score.kind == "0-1":
        bands["memorization"] = _band_of_shares(inside, outside)
    finite = explored.memorized.mean_out[np.isfinite(explored.memorized.mean_out)]
    if explored.risk is not None and finite.size:
        reach = normal_quantile(0.95) * float(np.sqrt((explored.num_models + 1) / (12 * inside * outside)))
        ends = float(finite.min()), float(finite.max())
        bands["risk"] = [{"across": x, "low": 0.5 - reach, "high": 0.5 + reach} for x in ends]
    return bands


def _band_of_shares(num_in: float, num_out: float) -> list[dict[str, float]]:
    """The differences of two shares whose interval contains 0, over the share of the models without the example.

    The variance of the one share that is known would not do: where all of few models are right, it is 0.
    """
    share_out = np.linspace(0, 1, 81)
    every_in, every_out = (each.ravel() for each in np.meshgrid(np.linspace(0, 1, _SHARES), share_out))
    interval = newcombe_interval(every_in, num_in, every_out, num_out)
    contains = (interval.low <= 0) & (interval.high >= 0)
    difference = np.where(contains, every_in - every_out, 0).reshape(len(share_out), _SHARES)
    columns = (share_out.tolist(), difference.min(axis=1).tolist(), difference.max(axis=1).tolist())
    return [{"across": x, "low": one, "high": other} for x, one, other in zip(*columns, strict=True)]


__all__ = ["Explored", "Side", "pack_content"]
