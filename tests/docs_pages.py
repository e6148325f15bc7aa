"""The programs of the pages of the documentation, and what a page says that they print."""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs").glob("*.md"))
REASONS = (
    "it needs a GPU",
    "it needs Slurm",
    "it needs PyTorch",
    "it needs Ray",
    "it downloads a data set",
    "it trains for hours",
)
"""What a page may say of a program that no test runs, in a line above it: *Not run by a test: it needs a GPU.*"""

_FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```[ \t]*$", re.DOTALL | re.MULTILINE)
_INDENTED = re.compile(r"(?:^ {4}\S[^\n]*\n)+", re.MULTILINE)
_SKIPPED = re.compile(r"\*Not run by a test: ([^*]+)\.\*\s*$")
_WHOLE_LIST = re.compile(r"\[ *(\d+)(?:,? +\d+)*,? *\]")
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d*)?")


class Block(NamedTuple):
    """A program of a page."""

    source: str
    shown: str
    """What the page says that it prints; empty where it says nothing."""
    reason: str
    """Why no test runs it; empty where one does."""
    line: int
    """Line of the page on which it begins."""


def read_blocks(text: str) -> list[Block]:
    """The Python programs of a page in order.

    What a program prints is the first block of text, fenced or indented, between it and the next program or heading.
    """
    fences = list(_FENCE.finditer(text))
    found = []
    for number, fence in enumerate(fences):
        if fence[1] != "python":
            continue
        before = text[: fence.start()].rstrip("\n").rpartition("\n")[2]
        skipped = _SKIPPED.search(before)
        until = next((other.start() for other in fences[number + 1 :] if other[1] == "python"), len(text))
        after = text[fence.end() : until].partition("\n#")[0]
        shown = _find_shown(after) if "print(" in fence[2] else ""
        reason = skipped[1] if skipped else ""
        found.append(Block(fence[2], shown, reason, text.count("\n", 0, fence.start()) + 2))
    return found


def _find_shown(after: str) -> str:
    fenced, indented = re.search(r"^```text\n(.*?)^```", after, re.DOTALL | re.MULTILINE), _INDENTED.search(after)
    if fenced is not None and (indented is None or fenced.start() < indented.start()):
        return fenced[1]
    return "" if indented is None else "\n".join(line[4:] for line in indented[0].splitlines())


def _keep_first(text: str) -> str:
    # NumPy aligns the numbers of a list by spaces.
    return re.sub(r"(?<=[\[(]) +| +(?=[\])])", "", _WHOLE_LIST.sub(lambda found: f"[{found[1]}]", text))


def differs(shown: str, printed: str) -> str:
    """Say how what was printed differs from what a page shows; "" where it does not.

    Words must be the same. Numbers may differ as those of two processors do, whose models differ: fractions by 0.05, or by a tenth, and
    whole numbers by a quarter. Of a list of whole numbers, which number examples, the first is the same; near ties change places behind it.
    """
    shown, printed = _keep_first(shown), _keep_first(printed)
    ours, theirs = shown.strip().splitlines(), printed.strip().splitlines()
    if len(theirs) < len(ours):
        return f"the page shows {len(ours)} lines, and {len(theirs)} were printed: {printed!r}"
    for line, (one, other) in enumerate(zip(ours, theirs, strict=False), 1):
        if _NUMBER.sub("#", " ".join(one.split())) != _NUMBER.sub("#", " ".join(other.split())):
            return f"line {line} is {one!r} on the page, and {other!r} was printed"
        for left, right in zip(_NUMBER.findall(one), _NUMBER.findall(other), strict=True):
            a, b = (float(number.replace(",", "").rstrip(".")) for number in (left, right))
            whole = "." not in left and "." not in right
            exact = one.lstrip().startswith("[") and whole
            allowed = 0 if exact else 0.25 * abs(a) if whole else max(0.05, 0.1 * abs(a))
            if abs(a - b) > allowed:
                return f"line {line} is {one!r} on the page, and {other!r} was printed"
    return ""
