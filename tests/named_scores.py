"""Models whose scores have names, made from arrays; estimators take them in place of a trained `Ensemble`."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from jaxinfl.arguments import ScoreKind, score_kind


@dataclass
class NamedScores:
    """The attributes and methods of `jaxinfl.Ensemble` that the estimators use."""

    masks: np.ndarray
    train: Mapping[str, np.ndarray]
    test: Mapping[str, np.ndarray]
    diverged: np.ndarray | None = None

    def without_diverged(self) -> "NamedScores":
        if self.diverged is None:
            return self
        kept = ~self.diverged
        train, test = ({name: score[kept] for name, score in part.items()} for part in (self.train, self.test))
        return NamedScores(self.masks[kept], train, test)

    def score_kind(self, name: str) -> ScoreKind:
        return score_kind(*(part[name] for part in (self.train, self.test) if name in part))

    def train_score(self, name: str) -> np.ndarray:
        return self.train[name]

    def test_score(self, name: str) -> np.ndarray:
        return self.test[name]
