"""The result of an experiment in words, in a shape that is read in seconds: an answer, some evidence, and the paper's result."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

MOST_WORDS = 30
"""Largest number of words in a sentence of a finding."""
MOST_EVIDENCE = 3
"""Largest number of sentences that support an answer."""

_NEXT_SENTENCE = re.compile(r"[.!?]\s+[A-Z]")


@dataclass(frozen=True)
class Finding:
    """Answer to the question of an experiment. It cannot be made of more or longer sentences than a reader takes in at once.

    Raises:
      ValueError: a part is not one sentence of at most `MOST_WORDS` words with a full stop, the evidence has more than
        `MOST_EVIDENCE` sentences, or one of them has no number.
    """

    answer: str
    """One sentence that answers the question and is understood by somebody who has read nothing else."""
    evidence: Sequence[str] = ()
    """Sentences that support the answer, at most three, each with a number, its unit and what it is compared with."""
    paper: str = ""
    """What the paper found, in one sentence with its section; empty where the paper says nothing of it."""

    def __post_init__(self) -> None:
        parts = {"answer": self.answer, **{f"evidence[{k}]": part for k, part in enumerate(self.evidence)}}
        for name, text in (parts | {"paper": self.paper} if self.paper else parts).items():
            _check_sentence(name, text)
        if len(self.evidence) > MOST_EVIDENCE:
            raise ValueError(
                f"evidence has {len(self.evidence)} sentences; a finding takes at most {MOST_EVIDENCE}. "
                "Put the others below a table or a figure."
            )
        for number, text in enumerate(self.evidence):
            if not re.search(r"\d", text):
                raise ValueError(f"evidence[{number}] is {text!r}, without a number; say how much, and of what.")


def _check_sentence(name: str, text: str) -> None:
    words = len(text.split())
    if not text.endswith(".") or _NEXT_SENTENCE.search(text):
        raise ValueError(f"{name} is {text!r}; a finding takes one sentence that ends with a full stop.")
    if words > MOST_WORDS:
        raise ValueError(f"{name} has {words} words; a finding takes at most {MOST_WORDS}. It is {text!r}.")


__all__ = ["MOST_EVIDENCE", "MOST_WORDS", "Finding"]
