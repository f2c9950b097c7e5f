from __future__ import annotations

import numpy as np
import pytest
import torch

from nas_compress.errors import ExportError, RequestError
from nas_compress.tasks.classification import Classification

TASK = Classification.of_images(shape=(1, 8, 8), classes=3)
LOGITS = np.array([[2.0, 0.0, 1.0], [0.0, 3.0, 1.0], [0.0, 1.0, 0.5], [1.0, 0.0, 4.0]], dtype=np.float32)


def test_metrics_and_loss_follow_their_definitions() -> None:
    labels = np.array([0, 1, 2, 2])
    assert TASK.measure({"logits": LOGITS}, {"label": labels}) == {"accuracy": 0.75}
    assert set(TASK.metrics) == {"accuracy"} and TASK.chance("accuracy") == pytest.approx(1 / 3)
    assert TASK.chance("latency_ms") is None
    outputs, targets = {"logits": torch.from_numpy(LOGITS)}, {"label": torch.from_numpy(labels)}
    expected = -torch.from_numpy(LOGITS).softmax(1)[range(4), labels].log().mean()
    torch.testing.assert_close(TASK.base_loss(outputs, targets), expected)


@pytest.mark.parametrize(
    ("rounding", "wrong", "agrees"),
    [("none", 0, True), ("none", 1, False), ("integers", 10, True), ("integers", 11, False), ("few_bits", 30, True)],
)
def test_files_may_differ_as_far_as_their_rounding_explains(rounding, wrong: int, agrees: bool) -> None:
    module = np.tile(np.array([1.0, 0.0, -1.0], dtype=np.float32), (100, 1))
    file = module.copy()
    file[:wrong] = -file[:wrong]
    compare = {"rounding": rounding, "name": "m.onnx"}
    if agrees:
        assert TASK.agreement({"logits": file}, {"logits": module}, **compare).agreement == 1 - wrong / 100
    else:
        with pytest.raises(ExportError, match=r"agreement >= .*\(m.onnx\)"):
            TASK.agreement({"logits": file}, {"logits": module}, **compare)


@pytest.mark.parametrize("value", [1.0041, np.nan])
def test_a_float_file_must_have_the_logits_of_its_module(value: float) -> None:
    file = LOGITS.copy()
    file[0, 2] = value
    with pytest.raises(ExportError, match=r"max_difference <= 0\.004 must hold"):
        TASK.agreement({"logits": file}, {"logits": LOGITS}, rounding="none", name="m.onnx")


def test_one_class_is_no_task() -> None:
    with pytest.raises(RequestError, match="classes >= 2 must hold, but got classes=1"):
        Classification.of_images(shape=(1, 8, 8), classes=1)
