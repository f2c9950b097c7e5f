"""Cut networks of timm, train them for one epoch, and export them at several bit-widths.

    pip install 'nas-compress[timm]'
    python benchmarks/timm_networks.py [NAME ...]

The weights are random. Half of the channels of each layer are removed by the criterion l1. Whole rows of
`timm_networks.csv` are not computed again; with NAMEs only those networks are, anew. The script ends by writing
`docs/pages/timm.md` from the table; `--page` only does that.
"""

from __future__ import annotations

import argparse
import csv
import functools
import importlib.metadata
import signal
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas_compress.errors import describe
from nas_compress.measurement.export_agreement import check_agreement
from nas_compress.measurement.pipeline import Stopwatch, write_file
from nas_compress.models.onednn_workaround import safe_backward
from nas_compress.pruning.importance_criteria import rank_channels
from nas_compress.pruning.pruned_family import build_pruned, pruned_widths
from nas_compress.pruning.ranking import surviving_fractions
from nas_compress.pruning.unpruned_layers import layers_left_whole
from nas_compress.tasks.classification import Classification
from nas_compress.values.architecture import Architecture
from nas_compress.values.precision import Precision
from timm_zoo import CLASSES, NETWORKS, SHAPE, Raw

TABLE = Path(__file__).with_suffix(".csv")
PAGE = Path(__file__).parents[1] / "docs" / "pages" / "timm.md"
BITS = {"float32": (32, 32), "weights8": (8, 32), "weights4": (4, 32), "integers8": (8, 8)}
"""Weight and activation bits by column."""

SAMPLES, BATCH, RATIO, STEP, SECONDS = 160, 8, 0.5, 8, 180
WORKS = "yes"
TASK = Classification.of_images(shape=SHAPE, classes=CLASSES)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One network of the table. kept: part of the parameters left. The last columns hold WORKS or a reason."""

    network: str
    parameters: int = 0
    kept: float = 1.0
    cut_groups: int = 0
    whole_groups: int = 0
    seconds: float = 0.0
    cut: str = ""
    float32: str = ""
    weights8: str = ""
    weights4: str = ""
    integers8: str = ""


def samples() -> tuple[Tensor, Tensor]:
    """Noise with a bright square in a place that depends on the class."""
    random = torch.Generator().manual_seed(0)
    labels = torch.arange(SAMPLES) % CLASSES
    pixels = torch.randint(0, 160, (SAMPLES, *SHAPE), generator=random, dtype=torch.uint8)
    for sample, label in zip(pixels, labels.tolist(), strict=True):
        row, column = divmod(label, 4)
        sample[:, 16 * row : 16 * row + 16, 16 * column : 16 * column + 16] += 90
    return pixels, labels


def row_of(name: str) -> Row:
    """Cut, train and export one network."""
    started = time.monotonic()
    pixels, labels = samples()
    example = {"input": pixels[:4]}
    make = functools.partial(Raw, name)
    torch.manual_seed(0)
    found: dict[str, object] = {}
    try:
        with at_most(SECONDS):
            teacher = make()
            found["parameters"] = total = parameters(teacher)
            whole = layers_left_whole(teacher, example)
            groups = rank_channels(
                teacher, example, criterion="l1", seed=0, whole={layer for each in whole for layer in each.layers}
            )
            found |= {"cut_groups": len(groups), "whole_groups": len(whole)}
            fractions = surviving_fractions(groups, RATIO, ranking="local")
            widths = pruned_widths(groups, fractions, width_multiplier=1.0, step=STEP)
            shape = Architecture.of_images(
                SHAPE, classes=CLASSES, mean=0, std=1.0, family="pruned", depths=(), widths=widths
            )
            student = build_pruned(make, shape, example)
            train(student, pixels, labels)
            found |= {"kept": round(parameters(student) / total, 3), "cut": WORKS}
    except Exception as error:  # anything may be raised by a network of timm
        return Row(network=name, cut=describe(error)[:120], seconds=round(time.monotonic() - started, 1), **found)
    answers = {column: shipped(student.eval(), *bits, pixels) for column, bits in BITS.items()}
    return Row(network=name, seconds=round(time.monotonic() - started, 1), **found, **answers)


def parameters(network: nn.Module) -> int:
    return sum(values.numel() for values in network.parameters())


def train(student: nn.Module, pixels: Tensor, labels: Tensor) -> None:
    """One epoch."""
    optimiser = torch.optim.AdamW(student.train().parameters(), lr=3e-3)
    for inputs, targets in zip(pixels.split(BATCH), labels.split(BATCH), strict=True):
        optimiser.zero_grad()
        with safe_backward(student):
            F.cross_entropy(student(inputs), targets).backward()
        optimiser.step()


def shipped(student: nn.Module, weight_bits: int, activation_bits: int, pixels: Tensor) -> str:
    """Export the student and compare the file with its module; WORKS, or the reason against it."""
    batch = {"input": pixels}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        try:
            with at_most(SECONDS):
                deployable = write_file(
                    student,
                    path,
                    signature=TASK.signature,
                    precision=Precision(weight_bits=weight_bits, activation_bits=activation_bits),
                    calibration=batch,
                    watch=Stopwatch(),
                )
                check_agreement(deployable, path, batch, TASK)
        except Exception as error:
            return describe(error)[:120]
    return WORKS


@contextmanager
def at_most(seconds: int) -> Iterator[None]:
    """Raise TimeoutError in a block that takes longer."""

    def stop(number: int, frame: object) -> None:
        raise TimeoutError(f"more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def read_rows() -> dict[str, Row]:
    """Rows of the table by network."""
    kinds: Mapping[str, Callable[[str], object]] = {
        "parameters": int,
        "kept": float,
        "cut_groups": int,
        "whole_groups": int,
        "seconds": float,
    }
    if not TABLE.is_file():
        return {}
    with TABLE.open(newline="", encoding="utf-8") as file:
        rows = [{key: kinds.get(key, str)(value) for key, value in row.items()} for row in csv.DictReader(file)]
    return {str(row["network"]): Row(**row) for row in rows}  # type: ignore[arg-type]


def write_rows(rows: Mapping[str, Row]) -> None:
    """Write the table, in the order of NETWORKS."""
    with TABLE.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(rows[name]) for name in NETWORKS if name in rows)


def page(rows: Sequence[Row]) -> str:
    """The page of the documentation."""
    counts = ", ".join(
        f"{sum(getattr(row, column) == WORKS for row in rows)} {words}"
        + (
            f" (of {measured} measured)"
            if (measured := sum(getattr(row, column) != "" for row in rows)) < len(rows)
            else ""
        )
        for column, words in (
            ("cut", "are cut and train"),
            ("float32", "ship in float32"),
            ("weights8", "with weights of 8 bits"),
            ("weights4", "with weights of 4 bits"),
            ("integers8", "with integer kernels"),
        )
    )
    lines = [
        "# Networks of timm",
        "",
        f"`benchmarks/timm_networks.py` cuts {len(rows)} networks of timm {importlib.metadata.version('timm')} with "
        "random weights, for inputs of 64 x 64 pixels. Some have fewer blocks or narrower layers than the original. "
        f"Half of the channels of each layer are removed, in steps of {STEP}. The result is trained for one epoch, "
        "quantized, exported, and the file is compared with its module.",
        "",
        f"Of these, {counts}.",
        "",
        "- **left**: part of the parameters after the cut.",
        "- **groups cut / whole**: groups of layers that lost channels, and those that stay whole, because the cut "
        "network would not run or would compute other values than the masked one.",
        "- **W8A8**: weights and activations of 8 bits with integer kernels; `-` was not measured.",
        "",
        "| network | parameters | left | groups cut / whole | float32 | W8 | W4 | W8A8 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        shown = [{WORKS: "yes", "": "-"}.get(getattr(row, column), "no") for column in BITS]
        left = f"{row.kept:.0%}" if row.cut == WORKS else "not cut"
        lines.append(
            f"| {row.network} | {row.parameters / 1e6:.2f} M | {left} | {row.cut_groups} / {row.whole_groups} | "
            f"{' | '.join(shown)} |"
        )
    reasons = [(row.network, "cut", row.cut) for row in rows if row.cut != WORKS]
    reasons += [
        (row.network, column, getattr(row, column))
        for row in rows
        if row.cut == WORKS
        for column in BITS
        if getattr(row, column) != WORKS
    ]
    if reasons:
        lines += ["", "## Reasons", "", "| network | step | reason |", "|---|---|---|"]
        lines += [f"| {name} | {step} | {reason.replace('|', '/')} |" for name, step, reason in reasons]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Compute the missing rows and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", choices=[*NETWORKS, []])
    parser.add_argument("--page", action="store_true", help="only write the page")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    rows = read_rows()
    missing = [name for name in NETWORKS if name not in rows or (rows[name].cut == WORKS and not rows[name].integers8)]
    for name in [] if asked.page else asked.names or missing:
        rows[name] = row_of(name)
        write_rows(rows)
        print(rows[name], flush=True)
    PAGE.write_text(page([rows[name] for name in NETWORKS if name in rows]), encoding="utf-8")


if __name__ == "__main__":
    main()
