"""Dependence of each number of a traced function on its inputs, read from the program without running it.

Every number carries a set of sources, the bits of a uint8, and each operation hands on the union of the sets that it
reads. Reading the program finds couplings that running it misses: examples that meet behind a factor that is 0 at first
are coupled as soon as that factor is learned. And nothing is compiled.

The answer errs on one side only. An operation without a rule here hands the union of all sets that it reads to all numbers
that it returns. So a number may depend on less than its set says, and never on more.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import flax
import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

from jaxinfl.models.dependence_rules import (
    BOTH_EXAMPLES,
    ELEMENTWISE,
    RULES,
    Sources,
    shapes_of,
    union,
    union_of_arrays,
)

_MOST_TURNS = 64
"""Largest number of slices of a loop that is followed slice by slice; all slices of a longer loop are taken together."""


@dataclass
class Dependence:
    """The sources of all numbers that a traced function returns."""

    outputs: list[Sources]
    """The sources of every number of each output."""
    meeting: str | None = None
    """The line of code whose result is the first to depend on both examples; None where there is none."""


def trace_dependence(traced: ClosedJaxpr, inputs: Sequence[Sources]) -> Dependence:
    """Follow the sources of the inputs through a function.

    Args:
      traced: the function, from `jax.make_jaxpr`.
      inputs: the sources of every number of each input, in the order of the function's flat inputs.

    Returns:
      The sources of every number of each flat output. Constants have none. Memory: one byte for each number in use.
    """
    walk = _Walk()
    constants = [np.zeros(np.shape(constant), np.uint8) for constant in traced.consts]
    return Dependence(walk.run(traced.jaxpr, constants, list(inputs)), walk.meeting)


@dataclass
class _Walk:
    """One pass through a program."""

    meeting: str | None = None
    _within: list[JaxprEqn] = field(default_factory=list)
    """The operations of the whole program that enclose the current one, the outermost first."""

    def run(self, jaxpr: Jaxpr, constants: Iterable[Sources], inputs: Iterable[Sources]) -> list[Sources]:
        known: dict[Any, Sources] = dict(zip(jaxpr.constvars, constants, strict=True))
        known |= zip(jaxpr.invars, inputs, strict=True)

        def read(atom: Any) -> Sources:
            return np.zeros(np.shape(atom.val), np.uint8) if isinstance(atom, Literal) else known[atom]

        for eqn in jaxpr.eqns:
            read_here = [read(atom) for atom in eqn.invars]
            self._within.append(eqn)
            found = self._apply(eqn, read_here)
            self._within.pop()
            if self.meeting is None and _has_both(found) and not _has_both(read_here):
                # JAX traces its own functions once, so that what lies inside them names the line of their first call.
                self.meeting = f"{eqn.primitive.name}{_line_of([*self._within, eqn][0])}"
            known |= zip(eqn.outvars, found, strict=True)
        return [read(atom) for atom in jaxpr.outvars]

    def _apply(self, eqn: JaxprEqn, read: list[Sources]) -> list[Sources]:
        name = eqn.primitive.name
        if name in ("scan", "while", "cond"):
            return {"scan": self._scan, "while": self._while, "cond": self._cond}[name](eqn, read)
        inner = next((eqn.params[key] for key in ("jaxpr", "call_jaxpr", "fun_jaxpr") if key in eqn.params), None)
        if isinstance(inner, (Jaxpr, ClosedJaxpr)) and _takes(inner, len(read)):
            return self._call(inner, read)
        shapes = shapes_of(eqn)
        if name in ELEMENTWISE:
            return [union_of_arrays(read, shape) for shape in shapes]
        rule = RULES.get(name)
        found = None if rule is None else rule(eqn, read)
        if found is None:
            return [np.full(shape, union(read), np.uint8) for shape in shapes]
        return found

    def _call(self, inner: Jaxpr | ClosedJaxpr, read: list[Sources]) -> list[Sources]:
        if isinstance(inner, ClosedJaxpr):
            return self.run(inner.jaxpr, [np.zeros(np.shape(each), np.uint8) for each in inner.consts], read)
        return self.run(inner, [], read)

    def _scan(self, eqn: JaxprEqn, read: list[Sources]) -> list[Sources]:
        length, body = eqn.params["length"], eqn.params["jaxpr"]
        # These numbers are told from the shapes: releases of JAX name constants and carried values differently.
        returned_once: list[Any] = list(body.out_avals)
        carried = sum(whole == each.shape for whole, each in zip(shapes_of(eqn), returned_once, strict=True))
        taken_once: list[Any] = list(body.in_avals)
        constants = sum(whole.shape == each.shape for whole, each in zip(read, taken_once, strict=True)) - carried
        fixed, carry, slices = read[:constants], read[constants : constants + carried], read[constants + carried :]
        if length <= _MOST_TURNS:
            returned: list[list[Sources]] = []
            order = range(length)
            for turn in reversed(order) if eqn.params["reverse"] else order:
                found = self._call(body, [*fixed, *carry, *(each[turn] for each in slices)])
                carry = found[:carried]
                returned.append(found[carried:])
            if eqn.params["reverse"]:
                returned.reverse()
            shapes = shapes_of(eqn)[carried:]
            stacked = [np.stack(each) for each in zip(*returned, strict=True)] if returned else []
            return [*carry, *(stacked or [np.zeros(shape, np.uint8) for shape in shapes])]
        together = [np.bitwise_or.reduce(each, axis=0) for each in slices]
        found = self._repeat_until_stable(lambda carry: self._call(body, [*fixed, *carry, *together]), carry)
        return [*found[:carried], *(np.repeat(each[None], length, axis=0) for each in found[carried:])]

    def _while(self, eqn: JaxprEqn, read: list[Sources]) -> list[Sources]:
        of_condition, of_body = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
        condition, body = read[:of_condition], read[of_condition : of_condition + of_body]

        def turn(carry: list[Sources]) -> list[Sources]:
            # The condition decides how often the body runs, so everything depends on it.
            decided = union(self._call(eqn.params["cond_jaxpr"], [*condition, *carry]))
            return [each | np.uint8(decided) for each in self._call(eqn.params["body_jaxpr"], [*body, *carry])]

        return self._repeat_until_stable(turn, read[of_condition + of_body :])

    def _repeat_until_stable(
        self, turn: Callable[[list[Sources]], list[Sources]], carry: list[Sources]
    ) -> list[Sources]:
        """Run a loop's body until another turn adds no source to what it carries, and return all that the loop returns."""
        while True:
            found = turn(carry)
            wider = [old | new for old, new in zip(carry, found, strict=False)]
            if all(np.array_equal(old, new) for old, new in zip(carry, wider, strict=True)):
                return [*wider, *found[len(carry) :]]
            carry = wider

    def _cond(self, eqn: JaxprEqn, read: list[Sources]) -> list[Sources]:
        index, operands = read[0], read[1:]
        branches = [self._call(branch, operands) for branch in eqn.params["branches"]]
        return [union_of_arrays([*each, index], each[0].shape) for each in zip(*branches, strict=True)]


def _takes(inner: Jaxpr | ClosedJaxpr, number: int) -> bool:
    jaxpr = inner.jaxpr if isinstance(inner, ClosedJaxpr) else inner
    return len(jaxpr.invars) == number and (isinstance(inner, ClosedJaxpr) or not jaxpr.constvars)


def _has_both(arrays: Iterable[Sources]) -> bool:
    # Arrays of one value, as weights are, are looked at once: that is most of the time for large networks.
    one_each = (array if any(array.strides) or not array.size else array[(0,) * array.ndim] for array in arrays)
    return any(bool(((array & BOTH_EXAMPLES) == BOTH_EXAMPLES).any()) for array in one_each)


def _line_of(eqn: JaxprEqn) -> str:
    """The line that asked for an operation: the innermost one outside of JAX, Flax and this package."""
    libraries = [str(Path(module.__file__ or "").parent) for module in (jax, flax)] + [str(Path(__file__).parents[1])]
    frames: Any = eqn.source_info.traceback.frames if eqn.source_info.traceback else ()
    for frame in frames:
        if not any(frame.file_name.startswith(library) for library in libraries):
            return f" in {Path(frame.file_name).name}, line {frame.line_num}, {frame.function_name}"
    return ""


__all__ = ["Dependence", "trace_dependence"]
