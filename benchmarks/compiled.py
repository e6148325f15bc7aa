"""Read a compiled program: the kernels in its loop over steps, and the bytes and FLOPs of each.

The text is that of XLA's optimized program (`jax.stages.Compiled.as_text`), in which every fusion, library call or single
operation that is not a mere view is one kernel. A kernel reads its operands and writes its results once. Of an operand
that it only gathers from or slices it reads as much as it takes, and of an array that it updates in place it writes the update.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

_BITS = {"pred": 8, "bf16": 16, "token": 0, "opaque": 0, "c64": 64, "c128": 128}
_ARRAY = re.compile(r"\b(pred|bf16|c64|c128|f8\w*|[fsu]\d+)\[([\d,]*)\]")
_INSTRUCTION = re.compile(r"(ROOT )?(%[\w.\-]+) = (\((?:[^()]|\([^()]*\))*\)|\S+) ([\w\-]+)\((.*)")
_VIEWS = frozenset(
    ("parameter", "constant", "get-tuple-element", "tuple", "bitcast", "after-all", "partition-id", "replica-id")
)
_CONTROL = frozenset(("while", "conditional", "call", "async-start", "async-update", "async-done", "copy-done"))
_PASSES_THROUGH = frozenset(("bitcast", "reshape", "copy", "convert"))
_TAKES = frozenset(("dynamic-slice", "gather", "slice"))
COLLECTIVES = ("all-reduce", "all-gather", "collective-permute", "all-to-all", "reduce-scatter", "collective-broadcast")
"""Operations by which devices speak to each other."""


@dataclass(frozen=True)
class Kernel:
    """One kernel and what a single run of it does."""

    name: str
    """Name of the instruction."""
    kind: str
    """Operation, or the library's function for a library call."""
    read: int
    """Bytes read."""
    written: int
    """Bytes written."""
    flops: int
    """FLOPs of its matrix products and convolutions; a multiplication and an addition are two."""
    runs: int = 1
    """Number of runs in one step."""

    @property
    def moved(self) -> int:
        """Bytes read and written."""
        return self.read + self.written


@dataclass(frozen=True)
class Instruction:
    """One line of a compiled program."""

    name: str
    shape: str
    operation: str
    operands: tuple[str, ...]
    line: str
    is_root: bool

    def attribute(self, name: str) -> str | None:
        """The computation that an attribute names, such as the one a fusion calls."""
        found = re.search(rf"\b{name}=(%[\w.\-]+)", self.line)
        return found[1] if found else None


@dataclass
class Computation:
    """Instructions of one function of a compiled program, by name."""

    instructions: dict[str, Instruction] = field(default_factory=dict)

    def parameters(self) -> list[Instruction]:
        """Its parameters in order."""
        found = {
            int(re.findall(r"parameter\((\d+)\)", each.line)[0]): each
            for each in self.instructions.values()
            if each.operation == "parameter"
        }
        return [found[number] for number in sorted(found)]

    def users(self, name: str) -> list[Instruction]:
        """Instructions with an operand of this name."""
        return [each for each in self.instructions.values() if name in each.operands]


Program = dict[str, Computation]
"""The computations of a compiled program by name; it begins in "ENTRY"."""


def parse(text: str) -> Program:
    """Parse the text of a compiled program."""
    found: Program = {}
    current: Computation | None = None
    for line in text.splitlines():
        if line and not line.startswith((" ", "}")) and line.rstrip().endswith("{"):
            current = found.setdefault(line.split()[0], Computation())
        elif current is not None and (match := _INSTRUCTION.match(line.strip())):
            root, name, shape, operation, rest = match.groups()
            operands = tuple(re.findall(r"%[\w.\-]+", _inside(rest)))
            current.instructions[name] = Instruction(name, shape, operation, operands, line.strip(), bool(root))
    return found


def size_of(shape: str) -> int:
    """Bytes of an array, or of all arrays of a tuple."""
    return sum(_bits(dtype) * math.prod(_numbers(axes)) for dtype, axes in _ARRAY.findall(shape)) // 8


def step_kernels(program: Program, inner_runs: int = 1) -> list[Kernel]:
    """The kernels of one turn of the loop over steps, or over batches of an evaluation.

    It is the loop with the most FLOPs of its own, without those of loops inside it. Where a batch is taken in parts
    (`inner_runs` above 1), that one is the loop over these parts, and the loop around it is the one over steps.
    """
    bodies = {body for name in program for body in _bodies(program, name)}
    whole = {name: list(_kernels(program, name)) for name in program if name in bodies}
    # Kernels alone would not do: around a small network's step, the loop over chunks of steps has as many of its own.
    # A program without loops is one step.
    step = max(whole, key=lambda name: (sum(each.flops for each in whole[name]), len(whole[name])), default="ENTRY")
    if inner_runs > 1:
        step = next((name for name in whole if step in _bodies(program, name)), step)
    return list(_step(program, step, inner_runs))


def count_collectives(program: Program) -> int:
    """Number of operations by which devices speak to each other."""
    return sum(
        each.operation.removesuffix("-start") in COLLECTIVES
        for computation in program.values()
        for each in computation.instructions.values()
    )


def known_loops(program: Program) -> tuple[int, int]:
    """Number of loops whose number of turns the compiler knows, and number of all loops."""
    loops = [each for part in program.values() for each in part.instructions.values() if each.operation == "while"]
    return sum("known_trip_count" in each.line for each in loops), len(loops)


def _step(program: Program, name: str, inner_runs: int) -> Iterator[Kernel]:
    yield from _kernels(program, name)
    for each in _loops(program, name):
        turns = re.search(r'known_trip_count"?:\{"?n"?:"?(\d+)', each.line)
        body = each.attribute("body")
        assert body is not None
        runs = int(turns[1]) if turns else inner_runs
        for kernel in _step(program, body, 1):
            yield replace(kernel, runs=kernel.runs * runs)


def _bodies(program: Program, name: str) -> list[str]:
    return [body for each in _loops(program, name) if (body := each.attribute("body")) is not None]


def _loops(program: Program, name: str) -> list[Instruction]:
    """The loops of a computation, and of those that it calls."""
    found = []
    for each in program[name].instructions.values():
        if each.operation == "while":
            found.append(each)
        elif each.operation == "call" and (called := each.attribute("to_apply")) is not None:
            found += _loops(program, called)
    return found


def _kernels(program: Program, name: str) -> Iterator[Kernel]:
    """The kernels of a computation, without those of its loops."""
    computation = program[name]
    for each in computation.instructions.values():
        if each.operation == "call" and (called := each.attribute("to_apply")) is not None:
            yield from _kernels(program, called)
        if each.operation in _VIEWS or each.operation in _CONTROL or "AllocateBuffer" in each.line:
            continue
        inside = program.get(each.attribute("calls") or "")
        if inside is not None and each.operation == "fusion":
            read = sum(_read_of(inside, parameter) for parameter in inside.parameters())
            written = _written_by(inside)
            flops = sum(_flops(inside, inner) for inner in inside.instructions.values())
        else:
            read = sum(size_of(computation.instructions[operand].shape) for operand in each.operands)
            written = size_of(each.shape)
            if each.operation in _TAKES:
                read = min(read, written)
            flops = _flops(computation, each)
        target = re.search(r'custom_call_target="([^"]+)"', each.line)
        yield Kernel(each.name, target[1] if target else each.operation, read, written, flops)


def _read_of(inside: Computation, value: Instruction) -> int:
    """Bytes that a fusion reads of one of its operands."""
    whole, taken = size_of(value.shape), 0
    for user in inside.users(value.name):
        if user.operation in _TAKES and user.operands[0] == value.name:
            taken += size_of(user.shape)
        elif user.operation == "dynamic-update-slice" and user.operands[0] == value.name:
            continue
        elif user.operation in _PASSES_THROUGH and not user.is_root:
            # A conversion changes the size of what is taken later; the smaller type is what is read.
            taken += min(_read_of(inside, user), whole)
        else:
            return whole
    return min(whole, taken)


def _written_by(inside: Computation) -> int:
    """Bytes that a fusion writes: its results, or of a result that is updated in place the update."""
    root = next(each for each in inside.instructions.values() if each.is_root)
    results = [inside.instructions[name] for name in root.operands] if root.operation == "tuple" else [root]
    total = 0
    for result in results:
        while result.operation == "bitcast" and len(result.operands) == 1:
            result = inside.instructions[result.operands[0]]
        update = result.operands[1] if result.operation == "dynamic-update-slice" else result.name
        total += size_of(inside.instructions[update].shape)
    return total


def _flops(computation: Computation, each: Instruction) -> int:
    """FLOPs of a matrix product or a convolution; 0 of everything else."""

    def axes(operand: int) -> list[int]:
        return _axes(computation.instructions[each.operands[operand]].shape)

    contracting = re.search(r'lhs_contracting_dim(?:s=\{|ensions":\[)([\d,"]*)', each.line)
    if contracting and (each.operation == "dot" or "matmul" in each.line or "gemm" in each.line):
        left = axes(0)
        return 2 * math.prod(_axes(each.shape)) * math.prod(left[axis] for axis in _numbers(contracting[1]))
    labels = re.search(r"dim_labels=\w+_(\w+)->", each.line)
    if labels and (each.operation == "convolution" or "__cudnn$conv" in each.line):
        kernel, result = axes(1), _axes(each.shape)
        if "BackwardFilter" in each.line:
            kernel, result = result, axes(1)
        elif "BackwardInput" in each.line:
            result = axes(0)
        return 2 * math.prod(kernel) * math.prod(result) // kernel[labels[1].index("o")]
    return 0


def _inside(rest: str) -> str:
    """The operands of an instruction: the text up to the parenthesis that closes the one before it."""
    depth = 1
    for position, letter in enumerate(rest):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            return rest[:position]
    return rest


def _axes(shape: str) -> list[int]:
    """Axes of an array, or of the first array of a tuple."""
    found = _ARRAY.search(shape)
    return _numbers(found[2]) if found else []


def _numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)]


def _bits(dtype: str) -> int:
    """Bits of a number of this type, such as 32 for f32."""
    return _BITS[dtype] if dtype in _BITS else int(re.findall(r"\d+", dtype)[0])


__all__ = ["COLLECTIVES", "Kernel", "Program", "count_collectives", "known_loops", "parse", "size_of", "step_kernels"]
