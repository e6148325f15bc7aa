"""What a program moves through a card's memory and keeps there, read from its trace before anything is compiled.

A traced program is divided into kernels as XLA divides it for a GPU:

- Products, convolutions, sorts and the like take stored operands and store their results.
- A reduction stores its result, too, but computes its operand as it reads. One over the last axis is part of what reads it.
- Everything else is computed where it is read, and is stored only where a product or the end of the program needs an array.
- A matrix product also stores what is computed from its result alone, such as a bias and an activation.

`tests/test_gpu_program.py` compares these bytes with those of XLA's programs for an H100 and an A100.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from jaxinfl.models.model import count_bytes

_INLINED = ("jit", "pjit", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call", "remat", "checkpoint")
_VIEWS = frozenset(("reshape", "squeeze", "expand_dims", "copy", "stop_gradient", "optimization_barrier"))
"""Operations that cost nothing: the same bytes under another shape."""
_STORES_OPERANDS = frozenset(
    (
        "dot_general",
        "conv_general_dilated",
        "sort",
        "while",
        "scan",
        "cond",
        "scatter",
        "scatter-add",
        "scatter_add",
        "top_k",
    )
)
_REDUCTIONS = ("reduce", "argmax", "argmin", "cum", "gather", "select_and", "random_", "threefry")
"""How the names of operations begin that store their result but compute their operand."""
_ELEMENTWISE = frozenset(("reduce_precision",))
"""Operations that are no reductions, whatever their name."""


@dataclass(frozen=True)
class Traffic:
    """What one run of a program does to a card's memory."""

    moved: int
    """Bytes that its kernels read and write."""
    peak: int
    """Most bytes of stored values at one time, without arguments."""
    kernels: int
    """Number of kernels."""
    convolutions: int
    """Number of convolutions that are XLA's own operation."""


@dataclass(frozen=True)
class _Operation:
    """One operation of a program without calls: values are numbered."""

    name: str
    operands: tuple[int, ...]
    results: tuple[int, ...]


@dataclass
class _Program:
    """A program whose calls are taken apart."""

    operations: list[_Operation] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    """Bytes of each value."""

    def add(self, aval: Any) -> int:
        """Number a new value."""
        self.sizes.append(count_bytes(aval))
        return len(self.sizes) - 1

    def inline(self, jaxpr: Jaxpr, arguments: Sequence[int]) -> list[int]:
        """Add the operations of a program on these arguments, and return its results."""
        values: dict[Any, int] = dict(zip(jaxpr.invars, arguments, strict=True))
        for constant in jaxpr.constvars:
            values[constant] = self.add(constant.aval)

        def number(atom: Any) -> int:
            return self.add(atom.aval) if isinstance(atom, Literal) else values[atom]

        for equation in jaxpr.eqns:
            operands = [number(atom) for atom in equation.invars]
            inner = _called(equation)
            if inner is not None:
                results = self.inline(inner, operands[len(operands) - len(inner.invars) :])
            else:
                results = self._apply(equation, operands)
            values |= zip(equation.outvars, results, strict=False)
        return [number(atom) for atom in jaxpr.outvars]

    def _apply(self, equation: Any, operands: list[int]) -> list[int]:
        name = equation.primitive.name
        if name in _VIEWS and len(operands) == len(equation.outvars):
            return operands
        results = [self.add(variable.aval) for variable in equation.outvars]
        if name.startswith("reduce_") and equation.params.get("axes") == (equation.invars[0].aval.ndim - 1,):
            name = f"row_{name}"
        self.operations.append(_Operation(name, tuple(operands), tuple(results)))
        return results


def measure_traffic(program: ClosedJaxpr) -> Traffic:
    """Estimate the traffic of a traced program as XLA would divide it into kernels for a GPU."""
    whole = _Program()
    arguments = [whole.add(variable.aval) for variable in program.jaxpr.invars]
    results = whole.inline(program.jaxpr, arguments)
    made = {value: number for number, each in enumerate(whole.operations) for value in each.results}
    stored = _stored_values(whole, made, results)
    kernels = _kernels(whole, made, stored, results)
    kernels = _fuse_into_products(whole, made, kernels, set(results))
    moved = sum(sum(whole.sizes[value] for value in (*reads, *writes)) for reads, writes in kernels)
    convolutions = sum(each.name == "conv_general_dilated" for each in whole.operations)
    return Traffic(moved, _peak(whole, kernels, set(results)), len(kernels), convolutions)


def _called(equation: Any) -> Jaxpr | None:
    """The program that an equation calls; None where it is an operation."""
    if equation.primitive.name not in _INLINED and not equation.primitive.name.startswith("custom_"):
        return None
    for name in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
        inner = equation.params.get(name)
        if inner is not None:
            return inner.jaxpr if isinstance(inner, ClosedJaxpr) else inner
    return None


def _makes_kernel(name: str) -> bool:
    return name in _STORES_OPERANDS or (name.startswith(_REDUCTIONS) and name not in _ELEMENTWISE)


def _stored_values(whole: _Program, made: dict[int, int], results: Sequence[int]) -> set[int]:
    """Values that are arrays in memory: arguments, what kernels store, and what they need stored."""
    stored = {value for value in range(len(whole.sizes)) if value not in made} | set(results)
    for each in whole.operations:
        if _makes_kernel(each.name):
            stored |= set(each.results)
        if each.name in _STORES_OPERANDS:
            stored |= set(each.operands)
    return stored


Kernel = tuple[frozenset[int], tuple[int, ...]]
"""Values that a kernel reads, and values that it writes."""


def _kernels(whole: _Program, made: dict[int, int], stored: set[int], results: Sequence[int]) -> list[Kernel]:
    """The kernels that the results need, in the order of the program; those that read the same are one."""
    needed = set(results)
    found: list[tuple[bool, Kernel]] = []
    for number in reversed(range(len(whole.operations))):
        each = whole.operations[number]
        written = tuple(value for value in each.results if value in stored and value in needed)
        if not written:
            continue
        reads = frozenset(_sources(whole, made, stored, each.operands))
        needed |= reads
        found.append((each.name in _STORES_OPERANDS, (reads, written)))
    merged: list[Kernel] = []
    same: dict[frozenset[int], int] = {}
    for alone, (reads, written) in reversed(found):
        if not alone and reads in same:
            first = same[reads]
            merged[first] = (reads, merged[first][1] + written)
            continue
        if not alone:
            same[reads] = len(merged)
        merged.append((reads, written))
    return merged


def _fuse_into_products(
    whole: _Program, made: dict[int, int], kernels: list[Kernel], results: set[int]
) -> list[Kernel]:
    """Let matrix products store what is computed from them alone, as a bias and an activation are.

    A value that nothing else reads is then never stored itself.
    """
    owners = {value: number for number, (_, writes) in enumerate(kernels) for value in writes}
    fused: dict[int, list[int]] = {}
    gone: set[int] = set()
    for number, (reads, writes) in enumerate(kernels):
        if _makes_kernel(whole.operations[made[writes[0]]].name):
            continue
        product = max(reads, key=whole.sizes.__getitem__, default=None)
        if product not in made or whole.operations[made[product]].name != "dot_general":
            continue
        others = reads - {product}
        early = all(value not in made or made[value] < made[product] for value in others)
        if early and 4 * sum(whole.sizes[value] for value in others) <= whole.sizes[product]:
            fused.setdefault(owners[product], []).extend(writes)
            gone.add(number)
    left = [each for number, each in enumerate(kernels) if number not in gone]
    read = {value for reads, _ in left for value in reads} | results
    merged = []
    for number, (reads, writes) in enumerate(kernels):
        if number not in gone:
            kept = tuple(value for value in writes if value in read) if number in fused else writes
            merged.append((reads, kept + tuple(fused.get(number, ()))))
    return merged


def _sources(whole: _Program, made: dict[int, int], stored: set[int], operands: Sequence[int]) -> Iterator[int]:
    """The stored values from which operands are computed."""
    seen: set[int] = set()
    waiting = list(operands)
    while waiting:
        value = waiting.pop()
        if value in seen:
            continue
        seen.add(value)
        if value in stored:
            yield value
        else:
            waiting += whole.operations[made[value]].operands


def _peak(whole: _Program, kernels: Sequence[Kernel], results: set[int]) -> int:
    """Most bytes of values between kernels at one time: each from the kernel that writes it to the last one that reads it."""
    last = {value: number for number, (reads, _) in enumerate(kernels) for value in reads}
    written: set[int] = set()
    now = most = 0
    for number, (reads, writes) in enumerate(kernels):
        for value in writes:
            if value not in results:
                written.add(value)
                now += whole.sizes[value]
        most = max(most, now)
        now -= sum(whole.sizes[value] for value in (reads | set(writes)) & written if last.get(value, number) == number)
    return most


__all__ = ["Traffic", "measure_traffic"]
