from __future__ import annotations

import pytest

from nas_compress.errors import RequestError
from nas_compress.values.device_settings import PERCENTILES, DeviceSettings
from nas_compress.values.metrics.table import METRICS


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, ""),
        ({"counts_samples": True}, ""),
        ({"percentile": "p50", "providers": ["CPUExecutionProvider"]}, ""),
        ({"batch": 8}, "batch of 8"),
        ({"threads": 4}, "batch of 1, 4 threads"),
        ({"percentile": "mean"}, "batch of 1, mean"),
        (
            {
                "batch": 2,
                "threads": 3,
                "percentile": "p95",
                "providers": ("CUDAExecutionProvider", "CPUExecutionProvider"),
            },
            "batch of 2, 3 threads, p95, CUDA and CPU",
        ),
    ],
)
def test_only_settings_other_than_the_default_are_named(settings: dict[str, object], words: str) -> None:
    made = DeviceSettings(**settings)  # type: ignore[arg-type]
    assert made.conditions == words and made.are_default == (not words)
    assert DeviceSettings(**made.to_dict()).to_dict() == made.to_dict()


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"threads": 0}, "threads must be a whole number of at least 1, but got threads=0"),
        ({"threads": True}, "threads must be a whole number of at least 1, but got threads=True"),
        ({"batch": 1.5}, "batch must be a whole number of at least 1, but got batch=1.5"),
        ({"percentile": "p96"}, "percentile must be a known name, but got 'p96'; did you mean 'p95'?"),
        ({"providers": ()}, r"providers must be one or more different names, but got \[\]"),
        ({"providers": ("a", "a")}, r"providers must be one or more different names, but got \['a', 'a'\]"),
    ],
)
def test_values_out_of_range_are_refused(settings: dict[str, object], line: str) -> None:
    with pytest.raises(RequestError, match=line.replace("?", r"\?")):
        DeviceSettings(**settings)  # type: ignore[arg-type]


def test_throughput_is_the_batch_over_its_latency() -> None:
    assert DeviceSettings().figures(0.5) == {"latency_ms": 0.5}
    assert DeviceSettings(counts_samples=True).figures(0.5) == {"latency_ms": 0.5, "samples_per_s": 2000.0}
    assert DeviceSettings(batch=8).figures(4.0) == {"latency_ms": 4.0, "samples_per_s": 2000.0}
    assert all(METRICS[name].timed for name in DeviceSettings(batch=8).figures(4.0))
    assert METRICS["samples_per_s"].shown(12_340.0) == "12.3 k/s"


def test_every_statistic_but_the_mean_is_a_percentile_from_the_median_up() -> None:
    percents = [percent for percent in PERCENTILES.values() if percent is not None]
    assert percents == sorted(percents) and percents[0] == 50 and next(iter(PERCENTILES)) == "median"
