"""Read which kernels of a step a compiled program launches together, as one CUDA graph, and which one by one.

XLA calls a graph a command buffer. The text is what it dumps of its plan for the device ("thunk sequence"): one line for each
launch, indented below the graph or the loop that it belongs to.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_LINE = re.compile(r"^( *)\d+: (k\w+)\s*\[[^\]]*\]\s*(\S*)")
_PLANS = "*thunk_sequence_after_thunk_passes.txt"


@dataclass(frozen=True)
class Launches:
    """What the host launches in one step."""

    graphs: int
    """Number of graphs."""
    inside: int
    """Number of kernels that are launched by these graphs."""
    outside: int
    """Number of kernels that are launched one by one."""


@dataclass
class _Launch:
    kind: str
    name: str
    parts: list["_Launch"] = field(default_factory=list)
    """What a graph holds, or the body of a loop."""

    @property
    def multiplies(self) -> bool:
        """Whether it is a matrix product or a convolution."""
        return self.kind in ("kConvolution", "kGemm", "kCublasLtMatmul") or "gemm" in self.name


def read_launches(folder: Path, inner_runs: int = 1) -> Launches:
    """Count the launches of a step in the one plan that was dumped into a folder; see `count_launches`.

    Raises:
      FileNotFoundError: there is no plan.
    """
    plans = sorted(folder.glob(_PLANS))
    if not plans:
        raise FileNotFoundError(f"XLA dumped no plan {_PLANS} into {folder}; another release may call it otherwise.")
    return count_launches(plans[0].read_text(), inner_runs)


def count_launches(text: str, inner_runs: int = 1) -> Launches:
    """Count the launches of one turn of the loop over steps, or over batches of an evaluation.

    It is the loop with the most products of its own, or where a batch is taken in `inner_runs` parts the loop around that one.
    """
    whole = _parse(text)
    loops = [whole, *_loops(whole)]
    step = max(loops, key=lambda loop: sum(each.multiplies for each in _own(loop)))
    if inner_runs > 1:
        step = next((loop for loop in loops if step in _direct_loops(loop)), step)
    return _count(step, inner_runs)


def _parse(text: str) -> _Launch:
    """Parse a plan to the tree of its launches; conditions of loops are left out."""
    whole = _Launch("", "")
    open_parts: list[tuple[int, _Launch]] = [(-1, whole)]
    in_condition = False
    for line in text.splitlines():
        if line.strip() in ("condition:", "body:"):
            in_condition = line.strip() == "condition:"
            continue
        found = _LINE.match(line)
        if found is None or in_condition:
            continue
        indent, launch = len(found[1]), _Launch(found[2], found[3])
        while open_parts[-1][0] >= indent:
            open_parts.pop()
        open_parts[-1][1].parts.append(launch)
        open_parts.append((indent, launch))
    return whole


def _own(loop: _Launch) -> Iterator[_Launch]:
    """The kernels of a loop, in graphs or not, without those of loops inside it."""
    for each in loop.parts:
        if each.kind == "kCommandBuffer":
            yield from _own(each)
        elif each.kind != "kWhile":
            yield each


def _direct_loops(loop: _Launch) -> list[_Launch]:
    return [each for each in loop.parts if each.kind == "kWhile"]


def _loops(whole: _Launch) -> Iterator[_Launch]:
    for each in whole.parts:
        if each.kind == "kWhile":
            yield each
        yield from _loops(each)


def _count(loop: _Launch, inner_runs: int) -> Launches:
    graphs = [each for each in loop.parts if each.kind == "kCommandBuffer"]
    inside = sum(len(list(_own(each))) for each in graphs)
    outside = sum(each.kind not in ("kCommandBuffer", "kWhile") for each in loop.parts)
    inner = [_count(each, 1) for each in _direct_loops(loop)]
    return Launches(
        len(graphs) + inner_runs * sum(each.graphs for each in inner),
        inside + inner_runs * sum(each.inside for each in inner),
        outside + inner_runs * sum(each.outside for each in inner),
    )


__all__ = ["Launches", "count_launches", "read_launches"]
