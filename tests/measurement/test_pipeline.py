from __future__ import annotations

import time
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from nas_compress.data.dataset import Split
from nas_compress.devices.onnx_session import open_session
from nas_compress.devices.onnxruntime_cpu.device import OnnxruntimeCpu
from nas_compress.errors import ExportError
from nas_compress.measurement.pipeline import Stopwatch, calibration_samples, measure_cost, measure_file, write_file
from nas_compress.models.macs import count_macs, count_parameters
from nas_compress.trial.context import TrialContext
from nas_compress.values.outcome import Measured
from nas_compress.values.precision import Precision


def test_a_stopwatch_adds_up_and_counts_what_fails() -> None:
    watch = Stopwatch()
    for _ in range(2):
        with watch.stage("a"):
            time.sleep(0.01)
    with pytest.raises(ValueError, match="no"), watch.stage("b"):
        raise ValueError("no")
    assert watch.seconds["a"] >= 0.02 and set(watch.seconds) == {"a", "b"}


def test_calibration_takes_the_first_training_samples(context: TrialContext) -> None:
    (samples,) = calibration_samples(context.dataset.train).values()
    assert len(samples) == 256 and torch.equal(samples, context.dataset.train.inputs["input"][:256])
    assert context.calibration["input"].device.type == "cpu"


def test_calibration_takes_samples_of_every_class_of_sorted_data() -> None:
    labels = torch.arange(4).repeat_interleave(100)
    train = Split(name="train", inputs={"input": labels.float()[:, None]}, targets={"label": labels})
    (samples,) = calibration_samples(train).values()
    assert torch.equal(torch.bincount(samples[:, 0].long()), torch.tensor([64, 64, 64, 64]))


@pytest.mark.parametrize("bits", [(32, 32), (8, 32), (8, 8)])
def test_a_network_becomes_a_file_with_its_figures(
    bits: tuple[int, int], context: TrialContext, tmp_path: Path
) -> None:
    network, path, watch = context.teacher.network, tmp_path / "model.onnx", Stopwatch()
    task = context.dataset.task
    before = {name: value.clone() for name, value in network.state_dict().items()}
    deployable = write_file(
        network,
        path,
        signature=task.signature,
        precision=Precision(weight_bits=bits[0], activation_bits=bits[1]),
        calibration=context.calibration,
        watch=watch,
    )
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    cost = measure_cost(
        network,
        path,
        signature=task.signature,
        activation_bits=bits[1],
        sample=context.calibration,
        target=context.target,
        watch=watch,
    )
    assert cost.figures["parameters"] == count_parameters(network) and cost.figures["size_bytes"] == path.stat().st_size
    assert cost.figures["macs"] == count_macs(network, context.dataset.train.first(1).inputs) == context.teacher_macs
    assert "accuracy" not in cost.figures and cost.agreement is None

    full = measure_file(
        deployable,
        path,
        task=task,
        activation_bits=bits[1],
        cost=cost,
        validation=context.dataset.validation,
        target=context.target,
        watch=watch,
    )
    validation = context.dataset.validation
    with torch.no_grad():
        classes = deployable(validation.inputs["input"]).argmax(dim=1)
        right = (classes == validation.targets["label"]).float().mean().item()
    assert full.figures["accuracy"] == pytest.approx(right, abs=0.02) and full.figures["accuracy"] > 0.7
    assert full.max_difference is not None and full.agreement is not None and full.agreement > 0.95
    assert (full.figures["parameters"], full.figures["macs"]) == (cost.figures["parameters"], cost.figures["macs"])


class OldCpu(OnnxruntimeCpu):
    """A processor whose integer kernels saturate."""

    def describe(self) -> dict[str, Any]:
        return super().describe() | {"system": "Linux x86_64", "flags": ("avx2",)}


def test_integer_kernels_that_saturate_are_the_reason(
    context: TrialContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, other, watch = tmp_path / "model.onnx", tmp_path / "other.onnx", Stopwatch()
    task, network = context.dataset.task, deepcopy(context.teacher.network)
    precision = Precision(weight_bits=8, activation_bits=8)
    write = partial(
        write_file, signature=task.signature, precision=precision, calibration=context.calibration, watch=watch
    )
    deployable = write(network, path)
    with torch.no_grad():
        network.head.classifier.weight.mul_(-1)
    write(network, other)
    # the session of another file stands in for kernels that saturate
    monkeypatch.setattr(
        "nas_compress.measurement.pipeline.open_session", lambda _, signature: open_session(other, signature=signature)
    )
    with pytest.raises(
        ExportError, match=r"\(model.onnx\)\. The file agrees without integer kernels: .*neither VNNI"
    ) as error:
        measure_file(
            deployable,
            path,
            task=task,
            activation_bits=8,
            cost=Measured(figures={}, latency_spread=0.0, latency_noisy=False),
            validation=context.dataset.validation,
            target=OldCpu(),
            watch=watch,
        )
    assert "\n" not in str(error.value)


def test_a_file_of_another_network_is_found_out(context: TrialContext, tmp_path: Path) -> None:
    path, watch = tmp_path / "model.onnx", Stopwatch()
    task = context.dataset.task
    deployable = write_file(
        context.teacher.network,
        path,
        signature=task.signature,
        precision=Precision(),
        calibration=context.calibration,
        watch=watch,
    )
    cost = measure_cost(
        context.teacher.network,
        path,
        signature=task.signature,
        activation_bits=32,
        sample=context.calibration,
        target=context.target,
        watch=watch,
    )
    with torch.no_grad():
        deployable.head.classifier.weight.mul_(-1)
    with pytest.raises(ExportError, match="agreement >= "):
        measure_file(
            deployable,
            path,
            task=task,
            activation_bits=32,
            cost=replace(cost),
            validation=context.dataset.validation,
            target=context.target,
            watch=watch,
        )
