"""Windows of long recordings, and a study's data made of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nas_compress.data.load_dataset import load_dataset
from nas_compress.data.series.windows import sliding_windows
from nas_compress.errors import RequestError

FACTORY = """import numpy as np
from nas_compress.data.series.windows import sliding_windows

def load():
    random = np.random.default_rng(0)
    recordings = [random.integers(-500, 500, (3, 80)).astype(np.int16) + 100 * (n % 2) for n in range(12)]
    inputs, labels, groups = sliding_windows(recordings, ["still", "moving"] * 6, window=32, stride=16)
    return {"train": (inputs, labels), "groups": groups}
"""


def test_a_window_of_several_labels_and_the_last_steps_are_left_out() -> None:
    recording = np.arange(20, dtype=np.float32).reshape(2, 10)
    inputs, labels, groups = sliding_windows([recording, recording[:, :3]], [[0] * 5 + [1] * 5, 2], window=3, stride=2)
    assert inputs[:, 0].tolist() == [[0, 1, 2], [2, 3, 4], [6, 7, 8], [0, 1, 2]]
    assert (labels.tolist(), groups.tolist()) == ([0, 0, 1, 2], [0, 0, 0, 1])
    assert inputs.shape == (4, 2, 3) and inputs.dtype == np.float32


def test_windows_of_16_bit_sensors_are_data_with_whole_recordings_in_a_split(tmp_path: Path) -> None:
    (tmp_path / "my_sensors.py").write_text(FACTORY)
    data = load_dataset(factory="my_sensors:load", folder=tmp_path)
    (spec,) = data.task.signature.inputs
    assert (spec.dtype, spec.shape) == ("int16", ("N", 3, 32))
    assert len(data.train) % 4 == len(data.validation) % 4 == 0 < len(data.validation)


@pytest.mark.parametrize(
    ("recordings", "labels", "window", "rule"),
    [
        ([np.zeros((2, 9))], [0], 0, "window >= 1 and stride >= 1 must hold"),
        ([np.zeros((2, 9))], [0, 1], 4, "each recording must have labels, but got 2 for 1 recordings"),
        ([np.zeros((2, 9)), np.zeros((3, 9))], [0, 1], 4, "recordings must be (C, steps) of one type"),
        ([np.zeros((2, 9))], [[0, 1]], 4, "a recording must have one label, or one for each of its 9 steps"),
        ([np.zeros((2, 9))], [0], 10, "a recording must have 10 steps (window) of one label or more, but none has"),
    ],
)
def test_recordings_that_do_not_fit_are_refused(
    recordings: list[np.ndarray], labels: list[object], window: int, rule: str
) -> None:
    with pytest.raises(RequestError) as caught:
        sliding_windows(recordings, labels, window=window, stride=1)
    assert rule in str(caught.value)
