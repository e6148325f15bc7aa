"""Programs for an H100 and an A100, as XLA compiles them: kernels, bytes, FLOPs, memory, and an estimate of their time.

    make gpu-program                        makes .venv-cuda (6 GB), tests what it compiles, and compiles what is not recorded
    make gpu-program ARGS=--again           compiles everything again and renews the records: 25 minutes on one core
    python -m benchmarks.gpu_program --again --cases small_cnn --cards H100          one network on one card: a minute

Nothing runs: every time is an estimate of the compiler's program (`benchmarks/README.md` has what was measured on a card). Where the plugin
of `jax[cuda12]` is absent, nothing is compiled, and the committed records (`benchmarks/records/`) are shown.

Expected: patches ("gemm") move less for small networks, and the wider the fewer launches a model. For the paper's networks
XLA's convolutions ("xla"), one model at a time, move a third of what patches move in a quarter of the memory of one model.
"""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import tyro
from matplotlib.figure import Figure
from rich.table import Table

from benchmarks.cards import CARDS, LAUNCH_SECONDS
from benchmarks.gpu_compile import CASES, can_compile, compile_case
from benchmarks.gpu_figure import estimates_figure
from benchmarks.record import console, origin, write
from jaxinfl.arguments import check_choice, expand_home
from jaxinfl.units import format_amount, format_bytes

RECORDS = Path(__file__).parent / "records" / "gpu_program.json"
"""The committed records of the compiler's programs."""
ASSUMPTIONS = [
    "Estimated by the compiler from the description of a card: no number below is a measurement.",
    *(
        f"{card.name}: {card.bandwidth / 1e12:.2f} TB/s and {card.flops / 1e12:.0f} TFLOP/s in bfloat16, half of that in "
        f"float32 (TF32); the data sheet promises {card.peak_bandwidth / 1e12:.2f} TB/s and {card.peak_flops / 1e12:.0f} TFLOP/s."
        for card in CARDS.values()
    ),
    f"A kernel takes the longer of its traffic and its arithmetic, and {LAUNCH_SECONDS * 1e6:g} us to launch, in a CUDA graph or not.",
    "XLA launches most kernels in CUDA graphs, but neither convolutions of cuDNN nor loops.",
    "Every kernel reads its operands and writes its results once, and nothing stays in a cache from one to the next.",
    "Convolutions of a library run at the same rate as matrix products, grouped ones too, which in truth are slower.",
    "Algorithms are XLA's choice without trying them (autotuning is off).",
    "Launches and memory (temporaries) are those of a whole group; bytes, FLOP and time are those of one model.",
    "Left out: the start of a model, the order of an epoch, the host, and loops whose condition the host must read.",
]
"""What an estimate takes for granted; it stands above the table."""


@dataclass(frozen=True)
class Config:
    """Options of the command line."""

    cases: tuple[str, ...] = tuple(CASES)
    """Names of the networks to compile."""
    cards: tuple[str, ...] = tuple(CARDS)
    """Names of the cards to compile for."""
    widths: tuple[int, ...] = ()
    """Numbers of models at once on a device; empty takes those of each network."""
    records: Path = RECORDS
    """JSON file that programs are recorded in; a program that is there already is not compiled again."""
    again: bool = False
    """Compile programs again that are recorded already."""
    out: Path = Path("results/benchmarks")
    """Folder that the JSON file and the figure are written to."""


def main(config: Config) -> Path:
    """Compile what is not recorded yet, print the records, and write them with a figure; returns the JSON file."""
    config = dataclasses.replace(config, out=expand_home(config.out, "--out"))
    for name in config.cases:
        check_choice(name, "--cases", tuple(CASES))
    for name in config.cards:
        check_choice(name, "--cards", tuple(CARDS))
    if can_compile():
        _compile(config)
    else:
        console.print(
            "Nothing is compiled: this environment lacks jax-cuda12-plugin, which holds the compiler for NVIDIA's cards. "
            "`make gpu-program` makes one that has it. The records that follow are committed."
        )
    records = [each for each in read_records(config.records) if each["case"] in config.cases]
    for line in ASSUMPTIONS:
        console.print(line, style="dim")
    for card in config.cards:
        _print(card, [each for each in records if each["card"] == card])
    return write("gpu_program", {"assumptions": ASSUMPTIONS, "programs": records}, figure_of(records), config.out)


def read_records(path: Path = RECORDS) -> list[dict[str, Any]]:
    """Read the recorded programs; none where there is no file."""
    programs: list[dict[str, Any]] = json.loads(path.read_text())["programs"] if path.is_file() else []
    return programs


def _compile(config: Config) -> None:
    """Compile every program that is not recorded, and record each as soon as it is compiled."""
    # The plugin would look for a card and complain that there is none.
    jax.config.update("jax_platforms", "cpu")
    for name in config.cases:
        case = CASES[name]
        for card in config.cards:
            for kernels in case.kernels:
                for width in config.widths or case.widths:
                    key = (name, card, kernels, width)
                    kept = {_key(each): each for each in read_records(config.records)}
                    if key in kept and not config.again:
                        continue
                    console.print(f"  compiling {name} for {card}: {kernels}, {width} at once", style="dim")
                    kept[key] = compile_case(case, CARDS[card], kernels, width)
                    _write_records(config.records, list(kept.values()))
            # Programs of one network are not needed for the next, and hold gigabytes.
            jax.clear_caches()


def _key(record: dict[str, Any]) -> tuple[str, str, str, int]:
    return record["case"], record["card"], record["kernels"], record["width"]


def _write_records(path: Path, programs: list[dict[str, Any]]) -> None:
    order = list(CASES)
    programs.sort(key=lambda each: (order.index(each["case"]), each["card"], each["kernels"], each["width"]))
    # One line a program, so that a new one changes one line of the file.
    lines = ",\n".join(json.dumps(each) for each in programs)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'{{"origin": {json.dumps(origin())},\n"programs": [\n{lines}\n]}}\n')


def _print(card: str, records: Sequence[dict[str, Any]]) -> None:
    table = Table(title=f"{card}: one training step of one model (estimated by the compiler)", title_justify="left")
    table.add_column("network", no_wrap=True)
    table.add_column("kernels")
    for heading in (
        "width",
        "launches (estimate)",
        "of these in graphs (estimate)",
        "bytes moved (estimate)",
        "FLOP (estimate)",
        "memory (estimate)",
        "time (estimate)",
        "models an hour (estimate)",
    ):
        table.add_column(heading, justify="right")
    for number, each in enumerate(records):
        step, width = each["training step"], each["width"]
        last = number + 1 == len(records) or records[number + 1]["case"] != each["case"]
        table.add_row(
            each["case"],
            each["kernels"],
            str(width),
            str(step["kernels"]),
            f"{step['kernels_in_graphs']} in {step['graphs']}",
            format_bytes(step["bytes_moved"] / width),
            format_amount(step["flops"] / width),
            format_bytes(step["temporary_bytes"]),
            format_amount(1e6 * step["estimated_seconds_per_model"], ("us", "ms", "s")),
            format_amount(each["estimated_models_per_gpu_hour"]),
            end_section=last,
        )
    console.print(table)


def figure_of(records: Sequence[dict[str, Any]]) -> Figure:
    """Draw the estimated time of a training step of one model over the width, one panel a network."""
    return estimates_figure(
        {
            case: {
                (card, kernels): {
                    each["width"]: each["training step"]["estimated_seconds_per_model"]
                    for each in records
                    if _key(each)[:3] == (case, card, kernels)
                }
                for card, kernels in dict.fromkeys(_key(each)[1:3] for each in records if each["case"] == case)
            }
            for case in dict.fromkeys(each["case"] for each in records)
        }
    )


if __name__ == "__main__":
    main(tyro.cli(Config, description=(__doc__ or "").split("\n\n")[0]))
