from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from image_files import export_images, file_accuracy, predict_logits
from nas_compress.devices.onnx_session import open_session
from nas_compress.errors import RequestError
from nas_compress.values.signature import Signature

PIXELS = Signature.of_images((1, 1, 3), classes=3)


def _model(*, input_name: str = "input", output_name: str = "logits", operator: str = "Cast") -> onnx.ModelProto:
    attributes = {"to": TensorProto.FLOAT} if operator == "Cast" else {}
    graph = helper.make_graph(
        [
            helper.make_node(operator, [input_name], ["floats"], **attributes),
            helper.make_node("Reshape", ["floats", "rows"], [output_name]),
        ],
        "answers its own pixels",
        [helper.make_tensor_value_info(input_name, TensorProto.UINT8, ["N", 1, 1, 3])],
        [helper.make_tensor_value_info(output_name, TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(np.array([0, -1]), "rows")],
    )
    return helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 20)])


def _refused(path: Path) -> str:
    with pytest.raises(RequestError) as caught:
        open_session(path, signature=PIXELS)
    assert "\n" not in str(caught.value) and path.name in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("content", [b"", b"no model at all\n" * 20, bytes(1000), b"\x08\x09"])
def test_what_is_no_model_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    assert "must be an ONNX model" in _refused(tmp_path / "m.onnx")


def test_missing_file_and_folder_are_refused(tmp_path: Path) -> None:
    assert "No such file" in _refused(tmp_path / "gone.onnx")
    assert "must be readable" in _refused(tmp_path)
    os.mkfifo(tmp_path / "pipe.onnx")
    assert "not a regular file" in _refused(tmp_path / "pipe.onnx")


def test_cut_off_file_is_refused(make_network, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    export_images(make_network("resnet"), (1, 8, 8), path)
    path.write_bytes(path.read_bytes()[:-3000])
    _refused(path)


def test_model_that_the_runtime_does_not_know_is_refused(tmp_path: Path) -> None:
    onnx.save(_model(operator="Enchant"), tmp_path / "m.onnx")
    assert "must load in onnxruntime" in _refused(tmp_path / "m.onnx")


@pytest.mark.parametrize(
    ("names", "said"), [({"input_name": "x"}, "inputs input, but"), ({"output_name": "y"}, "outputs logits, but")]
)
def test_other_names_are_refused(tmp_path: Path, names: dict[str, str], said: str) -> None:
    onnx.save(_model(**names), tmp_path / "m.onnx")
    assert said in _refused(tmp_path / "m.onnx")


def test_weights_in_another_file_are_refused(make_network, tmp_path: Path) -> None:
    export_images(make_network("resnet"), (1, 8, 8), tmp_path / "whole.onnx")
    onnx.save(onnx.load(tmp_path / "whole.onnx"), tmp_path / "m.onnx", save_as_external_data=True, location="m.data")
    assert "external data" in _refused(tmp_path / "m.onnx")


def test_accuracy_of_a_hand_worked_model(tmp_path: Path) -> None:
    onnx.save(_model(), tmp_path / "m.onnx")
    samples = np.array([[9, 0, 0], [0, 9, 0], [0, 0, 9], [1, 2, 3]], dtype=np.uint8).reshape(4, 1, 1, 3)
    assert predict_logits(tmp_path / "m.onnx", samples).tolist() == samples.reshape(4, 3).tolist()
    assert file_accuracy(tmp_path / "m.onnx", samples, np.array([0, 1, 0, 2])) == 0.75


def test_an_open_session_answers_like_its_path_over_several_batches(tmp_path: Path) -> None:
    onnx.save(_model(), tmp_path / "m.onnx")
    samples = np.random.default_rng(0).integers(0, 255, (600, 1, 1, 3), dtype=np.uint8)
    session = open_session(tmp_path / "m.onnx")
    assert np.array_equal(predict_logits(session, samples), samples.reshape(600, 3))


@pytest.mark.parametrize(
    "samples", [np.zeros((2, 1, 1, 3)), np.zeros((2, 1, 3, 1), np.uint8), np.zeros((0, 1, 1, 3), np.uint8)]
)
def test_other_samples_are_refused(tmp_path: Path, samples: np.ndarray) -> None:
    onnx.save(_model(), tmp_path / "m.onnx")
    with pytest.raises(RequestError, match=r"input must be uint8 \(N, 1, 1, 3\)"):
        predict_logits(tmp_path / "m.onnx", samples)


def test_labels_of_another_number_are_refused(tmp_path: Path) -> None:
    onnx.save(_model(), tmp_path / "m.onnx")
    with pytest.raises(RequestError, match="one label per sample must hold, but got 3 of 2 samples"):
        file_accuracy(tmp_path / "m.onnx", np.zeros((2, 1, 1, 3), np.uint8), np.zeros(3, np.int64))
