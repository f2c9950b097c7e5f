"""Figures of early exits in words, for terminals and model cards."""

from __future__ import annotations

from nas_compress.values.exits.figures import ExitFigures


def exits_in_words(exits: ExitFigures) -> str:
    """Return the rate and latency of each exit, the 95th percentile and the changed answers as one line."""
    shares = [f"{rate:.1%} in {ms:.4f} ms" for rate, ms in zip(exits.rates, exits.latency_ms, strict=True)]
    changed = "" if exits.changed is None else f"; {exits.changed:.1%} of the answers differ from the whole network's"
    return f"exits: {', '.join(shares)}; p95 {exits.p95_ms:.4f} ms{changed}"


def exits_in_markdown(exits: ExitFigures) -> str:
    """Return the part of the card about early exits: their costs, and what other thresholds give."""
    lines = [
        "The file takes one sample (N = 1) and stops at the first exit that is confident enough. Latency is the mean",
        f"over the validation samples, of which the exits change the answer of {exits.changed or 0:.1%}.",
        "",
        "| exit | samples | latency (ms) | multiply-adds | threshold |",
        "|---|---|---|---|---|",
    ]
    thresholds = [*exits.thresholds, ""]
    columns = zip(exits.rates, exits.latency_ms, exits.macs, thresholds, strict=True)
    for number, (rate, latency, macs, threshold) in enumerate(columns):
        lines.append(f"| {number} | {rate:.1%} | {latency:.4f} | {macs:,} | {_threshold(threshold)} |")
    lines += ["", "Other thresholds, by the accuracy that they may lose on the validation split:", ""]
    lines += ["| may lose | thresholds | accuracy | latency (ms) |", "|---|---|---|---|"]
    for point in exits.points:
        each = ", ".join(map(_threshold, point.thresholds))
        lines.append(f"| {point.accuracy_loss:.2%} | {each} | {point.accuracy:.4f} | {point.latency_ms:.4f} |")
    return "\n".join([*lines, "", ""])


def _threshold(value: float | str | None) -> str:
    return value if isinstance(value, str) else "never" if value is None else f"{value:.4g}"
