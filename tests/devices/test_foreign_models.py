"""Model files of unknown origin: each is read from its own bytes alone, or refused in one line."""

from __future__ import annotations

import lzma
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from nas_compress.devices import onnx_session
from nas_compress.devices.onnx_session import file_signature, open_session, read_content, read_model
from nas_compress.devices.onnxruntime_cpu.timed_session import TimedNet
from nas_compress.errors import RequestError
from nas_compress.measurement.file_contents import stored_layers
from nas_compress.measurement.graph_key import structure_key
from nas_compress.measurement.predictions import measure_metrics, predict
from nas_compress.tasks.classification import Classification
from nas_compress.values.signature import Signature

WEIGHTS = np.ones((3, 3), np.float32)
GIVEN = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 3])
ANSWER = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 3])
PRODUCT = helper.make_node("MatMul", ["input", "w"], ["logits"])
OPSET = [helper.make_opsetid("", 20)]


def outside(name: str = "w") -> TensorProto:
    tensor = numpy_helper.from_array(WEIGHTS, name)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="other.bin")
    return tensor


def constant(tensor: TensorProto) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [tensor.name], value=tensor)


def model(nodes: list[onnx.NodeProto], *stored: TensorProto, **others: object) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "n", [GIVEN], [ANSWER], list(stored))
    return helper.make_model(graph, ir_version=9, opset_imports=OPSET, **others)


def branch(nodes: list[onnx.NodeProto], *stored: TensorProto) -> onnx.NodeProto:
    """An If whose first branch has these nodes; both branches return `logits`."""
    answer = helper.make_tensor_value_info("inner", TensorProto.FLOAT, ["N", 3])
    taken = helper.make_graph(
        [*nodes, helper.make_node("MatMul", ["input", "w"], ["inner"])], "a", [], [answer], stored
    )
    other = helper.make_graph([helper.make_node("Identity", ["input"], ["inner"])], "b", [], [answer])
    return helper.make_node("If", ["yes"], ["logits"], then_branch=taken, else_branch=other)


YES = numpy_helper.from_array(np.array(True), "yes")


def nested() -> onnx.ModelProto:
    inner = branch([], outside())
    inner.output[0] = "deep"
    answer = helper.make_tensor_value_info("deep", TensorProto.FLOAT, ["N", 3])
    both = [helper.make_graph([inner], name, [], [answer]) for name in "ab"]
    return model([helper.make_node("If", ["yes"], ["logits"], then_branch=both[0], else_branch=both[1])], YES)


def sparse() -> onnx.ModelProto:
    made = model([PRODUCT])
    indices = numpy_helper.from_array(np.array([0]), "i")
    made.graph.sparse_initializer.append(helper.make_sparse_tensor(outside(), indices, [3, 3]))
    return made


def function() -> onnx.ModelProto:
    body = [constant(outside()), helper.make_node("MatMul", ["x", "w"], ["y"])]
    made = helper.make_function("own", "Times", ["x"], ["y"], body, OPSET)
    imports = [*OPSET, helper.make_opsetid("own", 1)]
    graph = helper.make_graph([helper.make_node("Times", ["input"], ["logits"], domain="own")], "n", [GIVEN], [ANSWER])
    return helper.make_model(graph, ir_version=9, opset_imports=imports, functions=[made])


OUTSIDE: dict[str, Callable[[], onnx.ModelProto]] = {
    "initialiser": lambda: model([PRODUCT], outside()),
    "sparse initialiser": sparse,
    "constant": lambda: model([constant(outside()), PRODUCT]),
    "initialiser of a branch": lambda: model([branch([], outside())], YES),
    "constant of a branch": lambda: model([branch([constant(outside())])], YES),
    "branch in a branch": nested,
    "function": function,
}

READERS: dict[str, Callable[[Path], object]] = {
    "read_model": read_model,
    "read_content": read_content,
    "file_signature": file_signature,
    "open_session": open_session,
    "stored_layers": stored_layers,
    "structure_key": structure_key,
    "latency": lambda path: TimedNet(path, block_ms=1),
    "predict": lambda path: predict(path, {"input": WEIGHTS}),
}


def refused(read: Callable[[Path], object], path: Path) -> str:
    with pytest.raises(RequestError) as caught:
        read(path)
    assert "\n" not in str(caught.value) and path.name in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("place", OUTSIDE)
def test_weights_outside_are_refused_at_any_depth(
    place: str, reader: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused if the other file exists in the folder of the model, which is the working folder too."""
    monkeypatch.chdir(tmp_path)
    Path("other.bin").write_bytes(WEIGHTS.tobytes())
    Path("m.onnx").write_bytes(OUTSIDE[place]().SerializeToString())
    assert "must hold its own weights" in refused(READERS[reader], Path("m.onnx"))
    Path("m.onnx.xz").write_bytes(lzma.compress(Path("m.onnx").read_bytes()))
    assert "must hold its own weights" in refused(READERS[reader], Path("m.onnx.xz"))


def test_a_file_of_several_gigabytes_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "m.onnx").open("wb") as file:
        file.truncate(3 * 2**30)  # a file of zeros, which takes no place on the disk
    assert "at most 2147483647 bytes" in refused(read_model, tmp_path / "m.onnx")


def test_decompression_ends_at_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.onnx.xz"
    path.write_bytes(lzma.compress(bytes(30_000_000)))
    assert path.stat().st_size < 10_000
    assert "must be an ONNX model" in refused(read_model, path)
    monkeypatch.setattr(onnx_session, "MODEL_LIMIT", 29_999_999)
    assert "at most 29999999 bytes, also after decompression" in refused(read_model, path)


def test_a_size_that_the_bytes_do_not_have_is_refused(tmp_path: Path) -> None:
    tensor = numpy_helper.from_array(WEIGHTS, "w")
    tensor.dims[:] = [2**20, 2**20]
    (tmp_path / "m.onnx").write_bytes(model([PRODUCT], tensor).SerializeToString())
    assert "must load in onnxruntime" in refused(open_session, tmp_path / "m.onnx")


@pytest.mark.parametrize(("domain", "version"), [("", 999), ("com.unknown", 1)])
def test_unknown_operator_sets_are_refused(tmp_path: Path, domain: str, version: int) -> None:
    made = model([helper.make_node("Relu", ["input"], ["logits"], domain=domain)])
    made.opset_import[0].domain, made.opset_import[0].version = domain, version
    (tmp_path / "m.onnx").write_bytes(made.SerializeToString())
    assert "must load in onnxruntime" in refused(open_session, tmp_path / "m.onnx")


SEQUENCE = helper.make_tensor_sequence_value_info("logits", TensorProto.FLOAT, ["N", 3])
TEXT = helper.make_tensor_value_info("logits", TensorProto.STRING, ["N", 3])
OPTIONAL = helper.make_value_info("logits", helper.make_optional_type_proto(ANSWER.type))
UNTYPED = helper.make_value_info("logits", onnx.TypeProto())
ENDS = {
    "sequence": ([helper.make_node("SequenceConstruct", ["input"], ["logits"])], SEQUENCE, "of sequence type"),
    "text": ([helper.make_node("Cast", ["input"], ["logits"], to=TensorProto.STRING)], TEXT, "of string type"),
    "optional": ([helper.make_node("Optional", ["input"], ["logits"])], OPTIONAL, "of optional type"),
    "untyped": ([helper.make_node("Identity", ["input"], ["logits"])], UNTYPED, "of no type"),
}


@pytest.mark.parametrize("kind", ENDS)
def test_outputs_other_than_tensors_of_numbers_are_refused(kind: str, tmp_path: Path) -> None:
    nodes, answer, words = ENDS[kind]
    graph = helper.make_graph(nodes, "n", [GIVEN], [answer])
    made = helper.make_model(graph, ir_version=9, opset_imports=OPSET)
    (tmp_path / "m.onnx").write_bytes(made.SerializeToString())
    assert words in refused(file_signature, tmp_path / "m.onnx")
    if kind != "untyped":  # the runtime infers the type
        refused(open_session, tmp_path / "m.onnx")


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        ('x"; print(1) #', ["N", 3], "must have a name of letters"),
        ("input", ["N", "3); print(1"], "free sizes must have names"),
        ("input", [2, 3], "the first dimension must be 'N'"),
        ("input", ["N", -3], "fixed sizes >= 1"),
        ("input", None, "the first dimension must be 'N'"),
    ],
)
def test_names_and_sizes_of_a_signature_are_plain(
    name: str, shape: list[str | int] | None, words: str, tmp_path: Path
) -> None:
    given = helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    graph = helper.make_graph([helper.make_node("Relu", [name], ["logits"])], "n", [given], [ANSWER])
    (tmp_path / "m.onnx").write_bytes(helper.make_model(graph, opset_imports=OPSET).SerializeToString())
    assert words in refused(file_signature, tmp_path / "m.onnx")


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ([helper.make_node("Cast", ["input"], ["logits"], to=TensorProto.FLOAT)], r"logits must be float32 \(2, 3\)"),
        (
            [
                helper.make_node("Cast", ["input"], ["x"], to=TensorProto.FLOAT),
                helper.make_node("Reshape", ["x", "shape"], ["logits"]),
            ],
            "must run on the samples, but got .*m.onnx",
        ),
    ],
)
def test_a_file_that_does_not_answer_like_the_task_is_refused(
    nodes: list[onnx.NodeProto], words: str, tmp_path: Path
) -> None:
    task = Classification.of_images(shape=(1, 1, 3), classes=3)
    given = helper.make_tensor_value_info("input", TensorProto.UINT8, ["N", 1, 1, 3])
    answer = helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)
    shape = numpy_helper.from_array(np.array([7, 5]), "shape")
    graph = helper.make_graph(nodes, "n", [given], [answer], [shape])
    (tmp_path / "m.onnx").write_bytes(helper.make_model(graph, opset_imports=OPSET, ir_version=9).SerializeToString())
    inputs, targets = {"input": np.zeros((2, 1, 1, 3), np.uint8)}, {"label": np.zeros(2, np.int64)}
    with pytest.raises(RequestError, match=words):
        measure_metrics(tmp_path / "m.onnx", task, inputs=inputs, targets=targets)


def test_a_signature_leaves_out_stored_inputs(tmp_path: Path) -> None:
    """Files of old versions list their weights among the inputs."""
    weights = helper.make_tensor_value_info("w", TensorProto.FLOAT, [3, 3])
    graph = helper.make_graph([PRODUCT], "n", [GIVEN, weights], [ANSWER], [numpy_helper.from_array(WEIGHTS, "w")])
    (tmp_path / "m.onnx").write_bytes(helper.make_model(graph, opset_imports=OPSET).SerializeToString())
    found = file_signature(tmp_path / "m.onnx")
    assert found.input_names == ("input",) and isinstance(found, Signature)
