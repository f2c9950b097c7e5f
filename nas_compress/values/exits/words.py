"""Figures of early exits in words, for terminals and model cards."""

from __future__ import annotations

from nas_compress.values.exits.figures import ExitFigures, OperatingPoint


def exits_in_words(exits: ExitFigures) -> str:
    """Return rates, latencies over samples and their forecast, changed answers and other thresholds as lines."""
    shares = [f"{rate:.1%} in {ms:.4f} ms" for rate, ms in zip(exits.rates, exits.latency_ms, strict=True)]
    lines = [f"exits: {', '.join(shares)}" + (" (rates are assumed before training)" if exits.assumed else "")]
    forecast = f"forecast by the rates: mean {exits.expected_ms:.4f} ms"
    if exits.stream_ms:
        mean, median, p95 = exits.stream_ms
        measured = f"mean {mean:.4f}, median {median:.4f}, p95 {p95:.4f} ms over {exits.stream_samples} real samples"
        lines.append(f"{measured}; {forecast}")
    else:
        lines.append(f"{forecast}, p95 {exits.p95_ms:.4f} ms")
    if exits.changed is not None:
        lines[-1] += f"; {exits.changed:.1%} of the answers differ from the whole network's"
    for number, point in exits.other_points:
        lines.append(f"exit point {number}: {_point_in_words(point)}")
    return "\n".join(lines)


def exits_in_markdown(exits: ExitFigures) -> str:
    """Return the part of the card about early exits: their costs, and the figures of other thresholds."""
    lines = [
        "The file takes one sample (N = 1) and stops at the first exit that is confident enough.",
        f"{_latencies(exits)} The exits change the answer of {exits.changed or 0:.1%} of the validation samples.",
        "",
        "| exit | samples | latency (ms) | multiply-adds | threshold |",
        "|---|---|---|---|---|",
    ]
    thresholds = [*exits.thresholds, ""]
    columns = zip(exits.rates, exits.latency_ms, exits.macs, thresholds, strict=True)
    for number, (rate, latency, macs, threshold) in enumerate(columns):
        lines.append(f"| {number} | {rate:.1%} | {latency:.4f} | {macs:,} | {_threshold(threshold)} |")
    lines += ["", "Other thresholds, on the validation split. The first column is the accuracy that they may lose:", ""]
    lines += ["| may lose | thresholds | samples per exit | changed | accuracy | mean (ms) | p95 (ms) | exit point |"]
    lines += ["|---|---|---|---|---|---|---|---|"]
    others = {point.thresholds: str(number) for number, point in exits.other_points}
    for point in exits.points:
        each = ", ".join(map(_threshold, point.thresholds))
        rates = ", ".join(f"{rate:.1%}" for rate in point.rates)
        own = point.thresholds == exits.thresholds
        shown, stream_ms = (exits.changed, exits.stream_ms) if own else (point.changed, point.stream_ms)
        changed = "" if shown is None else f"{shown:.1%}"
        accuracy = point.figures.get("accuracy", point.accuracy)
        mean = stream_ms[0] if stream_ms else point.figures.get("latency_ms", point.latency_ms)
        p95 = f"{stream_ms[2]:.4f}" if stream_ms else ""
        place = "this file" if own else others.get(point.thresholds, "")
        cells = [f"{point.accuracy_loss:.2%}", each, rates, changed, f"{accuracy:.4f}", f"{mean:.4f}", p95, place]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", ""])


def _latencies(exits: ExitFigures) -> str:
    if not exits.stream_ms:
        return "Latency is the mean over the validation samples: the rates below times the latency of each exit."
    mean, median, p95 = exits.stream_ms
    return (
        f"Latency over {exits.stream_samples} validation samples, one by one: mean {mean:.4f}, median {median:.4f}, "
        f"95th percentile {p95:.4f} ms. The rates below times the latency of each exit give {exits.expected_ms:.4f} ms."
    )


def _point_in_words(point: OperatingPoint) -> str:
    rates = ", ".join(f"{rate:.1%}" for rate in point.rates)
    accuracy = "" if "accuracy" not in point.figures else f"accuracy {point.figures['accuracy']:.4f}, "
    p95 = f", p95 {point.stream_ms[2]:.4f}" if point.stream_ms else ""
    lost = f"{point.accuracy_loss:.2%}"
    return f"{accuracy}mean {point.figures['latency_ms']:.4f}{p95} ms, {rates} per exit (may lose {lost})"


def _threshold(value: float | str | None) -> str:
    return value if isinstance(value, str) else "never" if value is None else f"{value:.4g}"
