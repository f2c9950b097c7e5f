from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch

from image_files import check_images, compare_images, export_images, file_accuracy, predict_logits
from nas_compress.devices.onnx_session import open_session
from nas_compress.devices.onnxruntime_cpu.kernel_check import (
    float_kernels,
    optimised_operators,
    require_integer_kernels,
)
from nas_compress.errors import ExportError, FloatKernelError
from nas_compress.export.onnx_file import export_onnx
from nas_compress.measurement.exit_use import check_exits
from nas_compress.measurement.export_agreement import agreement_of_outputs, check_agreement
from nas_compress.measurement.graph_key import structure_key
from nas_compress.measurement.predictions import predict
from nas_compress.models.exits.network import EarlyExits, exit_signature
from nas_compress.quantization.quantize import quantize
from nas_compress.tasks.classification import AGREEMENT, Classification
from nas_compress.values.candidate import Exits
from processors import with_exact_integers

BITS = [(32, 32), (8, 32), (8, 8)]


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("family", ["resnet", "mobilenet", "vit"])
def test_trained_file_answers_like_its_module(trained, digits, tmp_path: Path, family: str, bits) -> None:
    module = quantize(
        trained[family], weight_bits=bits[0], activation_bits=bits[1], calibration={"input": digits.train[:256]}
    )
    path = tmp_path / "m.onnx"
    export_images(module, (1, 8, 8), path)
    with torch.no_grad():
        expected = module(digits.held_out).numpy()

    def check(session: ort.InferenceSession) -> None:
        found = compare_images(module, path, digits.held_out, session)
        assert found.max_difference == np.abs(predict_logits(session, digits.held_out.numpy()) - expected).max()
        assert found.agreement >= (0.99 if bits == (8, 8) else 0.999)
        accuracy = file_accuracy(session, digits.held_out.numpy(), digits.held_out_labels.numpy())
        assert abs(accuracy - (expected.argmax(1) == digits.held_out_labels.numpy()).mean()) <= 0.01

    with_exact_integers(path, check)


@pytest.mark.parametrize("bits", BITS)
def test_file_of_other_weights_is_caught(trained, digits, tmp_path: Path, bits) -> None:
    module = quantize(
        trained["resnet"], weight_bits=bits[0], activation_bits=bits[1], calibration={"input": digits.train[:256]}
    )
    export_images(module, (1, 8, 8), tmp_path / "m.onnx")
    other = deepcopy(module)
    other.head.classifier.bias[0] += 30
    with pytest.raises(ExportError, match="agreement >= "):
        check_images(other, tmp_path / "m.onnx", digits.held_out)


def test_kernels_are_named_if_the_file_agrees_without_them(trained, digits, tmp_path: Path) -> None:
    module = quantize(trained["resnet"], weight_bits=8, activation_bits=8, calibration={"input": digits.train[:256]})
    export_images(module, (1, 8, 8), tmp_path / "m.onnx")
    other = deepcopy(module)
    other.head.classifier.bias[0] += 30
    export_images(other, (1, 8, 8), tmp_path / "other.onnx")
    kernels = open_session(tmp_path / "other.onnx")  # stands in for kernels that saturate
    task = Classification.of_images(shape=(1, 8, 8), classes=10)
    for name, caution, end in (
        ("m.onnx", "sums saturate", r"\(m.onnx\)\. The file agrees without integer kernels: sums saturate$"),
        ("m.onnx", "", r"\(m.onnx\)$"),
        ("other.onnx", "sums saturate", r"\(other.onnx\)$"),
    ):
        inputs = {"input": digits.held_out}
        with pytest.raises(ExportError, match=f"^agreement >= .* {end}"):
            check_agreement(module, tmp_path / name, inputs, task, session=kernels, integer_caution=caution)


def test_answers_with_exits_are_compared_where_both_leave_at_the_same_exit() -> None:
    task = Classification.of_images(shape=(1, 8, 8), classes=10)
    logits, exits = np.eye(10, dtype=np.float32)[np.arange(100) % 10], np.arange(100) % 2
    expected = {"logits": logits, "exit": exits}

    def compare(moved: int, wrong: int) -> float:
        """The first samples leave at another exit, and some of them and of the next ones have another class."""
        found = {"logits": np.roll(logits, 1, axis=1), "exit": np.where(np.arange(100) < moved, 1 - exits, exits)}
        found["logits"][moved + wrong :] = logits[moved + wrong :]
        return agreement_of_outputs(found, expected, task, rounding="integers", name="m.onnx").agreement

    assert [compare(moved=0, wrong=0), compare(moved=10, wrong=0)] == [1.0, 1.0]
    assert compare(moved=10, wrong=1) == pytest.approx(89 / 90)
    with pytest.raises(ExportError, match=r"^at least 0\.9 .* same exit, but got 0\.8900 \(m\.onnx\)$"):
        compare(moved=11, wrong=0)


def test_kernels_are_named_for_a_file_with_exits(trained, digits, tmp_path: Path) -> None:
    network = EarlyExits(trained["resnet"], Exits(after=("stage0",)), sample=digits.train[:8]).eval()
    module = quantize(network, weight_bits=8, activation_bits=8, calibration={"input": digits.train[:64]})
    task = Classification.of_images(shape=(1, 8, 8), classes=10)
    path, inputs = tmp_path / "m.onnx", {"input": digits.held_out[:32]}
    export_onnx(module, exit_signature(task.signature), path)
    found = predict(open_session(path, optimised=False), {"input": digits.held_out[:32].numpy()})
    assert check_exits(module, path, found, inputs, task, integer_caution="sums saturate").agreement == 1.0
    other = found | {"logits": -found["logits"]}  # of kernels that saturate
    for caution, end in (("sums saturate", r"\. The file agrees without integer kernels: sums saturate$"), ("", "$")):
        with pytest.raises(ExportError, match=rf"^agreement >= .* \(m.onnx\){end}"):
            check_exits(module, path, other, inputs, task, integer_caution=caution)


def test_kernels_are_named_if_only_rounded_biases_tell_the_stored_graph_apart(
    make_network, digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(AGREEMENT, "integers", 0.999)
    module = quantize(
        make_network("resnet"), weight_bits=1, activation_bits=8, calibration={"input": digits.train[:64]}
    )
    export_images(module, (1, 8, 8), tmp_path / "m.onnx")
    stored = open_session(tmp_path / "m.onnx", optimised=False)  # stands in for kernels that saturate
    task, inputs = Classification.of_images(shape=(1, 8, 8), classes=10), {"input": digits.held_out}
    with pytest.raises(ExportError, match=r"^agreement >= .* The file agrees without integer kernels: sums saturate$"):
        check_agreement(module, tmp_path / "m.onnx", inputs, task, session=stored, integer_caution="sums saturate")


def test_module_that_answers_nan_is_caught(make_network, digits, tmp_path: Path) -> None:
    network = make_network("resnet")
    export_images(network, (1, 8, 8), tmp_path / "m.onnx")
    with torch.no_grad():
        network.head.classifier.bias[:] = float("nan")
    with pytest.raises(ExportError):
        check_images(network, tmp_path / "m.onnx", digits.held_out[:8])


def test_float_kernels_are_named(make_network, tmp_path: Path) -> None:
    network = make_network("resnet")
    export_images(network, (1, 8, 8), tmp_path / "m.onnx")
    assert len(float_kernels(tmp_path / "m.onnx")) == 10
    with pytest.raises(FloatKernelError, match=r"Conv, .*Gemm"):
        require_integer_kernels(tmp_path / "m.onnx")


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("family", ["resnet", "mobilenet"])
def test_structure_knows_no_weights(make_network, digits, tmp_path: Path, family: str, bits) -> None:
    def key(**changes: int) -> str:
        module = quantize(
            make_network(family, **changes),
            weight_bits=bits[0],
            activation_bits=bits[1],
            calibration={"input": digits.train[:64]},
        )
        export_images(module, (1, 8, 8), tmp_path / "m.onnx")
        return structure_key(tmp_path / "m.onnx")

    assert key(seed=0) == key(seed=1)
    assert len({key(), key(step=16), key(depths=(2, 1, 1))}) == 3


def test_structure_is_that_of_the_graph_that_runs(trained, digits, make_network, tmp_path: Path) -> None:
    keys, operators = [], []
    for network in (trained["resnet"], make_network("resnet", depths=(1, 2, 1), shrink=2, seed=5)):
        for bits in BITS:
            module = quantize(
                network, weight_bits=bits[0], activation_bits=bits[1], calibration={"input": digits.train[:64]}
            )
            export_images(module, (1, 8, 8), tmp_path / "m.onnx")
            keys.append(structure_key(tmp_path / "m.onnx"))
            operators.append(optimised_operators(tmp_path / "m.onnx"))
    assert keys[:3] == keys[3:] and all(len(key) == 16 for key in keys)
    # weights stored in 8 bits are the same floats to the runtime, those of integer kernels are not
    assert keys[0] == keys[1] != keys[2] and operators[0] == operators[1] != operators[2]
