"""Tables of embeddings with few bits: the file holds packed rows, also in memory, and unpacks those of the ids."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from nas_compress.export.onnx_file import export_onnx
from nas_compress.export.sequences.embedding_rows import pack_rows, row_bits
from nas_compress.export.weight_formats import STEPS, Layout
from nas_compress.quantization.modules import StoredEmbedding
from nas_compress.quantization.quantize import quantize
from token_networks import TEXT, File, encoder, sentences

ROWS = 50


class Bag(nn.Module):
    """The mean of the embeddings of all tokens."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embedding = nn.ModuleDict({"table": nn.Embedding(ROWS, width)})
        self.head = nn.Linear(width, 3)

    def forward(self, ids: Tensor) -> Tensor:
        values: Tensor = self.head(self.embedding["table"](ids).mean(dim=1))
        return values


def stored(bits: int, width: int) -> nn.Module:
    torch.manual_seed(0)
    return quantize(
        Bag(width), weight_bits=8, activation_bits=32, calibration=None, layer_bits={"embedding.table": bits}
    )


def loaded_tables(path: Path) -> list[onnx.TensorProto]:
    """The tensors with a row per token in the runtime's optimised graph."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(path.with_suffix(".loaded"))
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    graph = onnx.load(path.with_suffix(".loaded")).graph
    return [tensor for tensor in graph.initializer if tensor.dims[:1] == [ROWS]]


@pytest.mark.parametrize("width", [16, 13])
@pytest.mark.parametrize("bits", [16, 8, 6, 4, 3, 2, 1])
def test_the_file_answers_as_the_module_and_keeps_its_rows_packed(bits: int, width: int, tmp_path: Path) -> None:
    module, path = stored(bits, width), tmp_path / "model.onnx"
    assert isinstance(module.get_submodule("embedding.table"), StoredEmbedding)
    file = File(module, path)
    with torch.no_grad():
        np.testing.assert_allclose(file(sentences()), module(sentences()).numpy(), rtol=0, atol=1e-6)
    in_bytes = 2 * width if bits == 16 else -(-width * row_bits(bits) // 8) + 4  # the scales become floats
    tables = [numpy_helper.to_array(tensor) for tensor in loaded_tables(path)]
    assert sum(table.nbytes for table in tables) == ROWS * in_bytes, "neither floats nor one byte per number"


def test_rows_are_packed_by_stretches_of_columns() -> None:
    drawn = np.random.default_rng(0).integers(-8, 8, (5, 7)).astype(np.int8)
    packed, zero = pack_rows(drawn, 4)
    assert packed.shape == (5, 4) and zero == 8
    np.testing.assert_array_equal((packed & 15).astype(int) - 8, drawn[:, :4])
    np.testing.assert_array_equal((packed >> 4).astype(int)[:, :3] - 8, drawn[:, 4:])
    signs, _ = pack_rows(np.array([[1, -1, -1, 1, 1, 1, 1, -1]], dtype=np.int8), 1)
    assert signs.tolist() == [[0b01111001]]


@pytest.mark.parametrize("step", STEPS)
def test_every_layout_has_the_same_answers(step: str, tmp_path: Path) -> None:
    module, layout = stored(4, 13), STEPS[step]
    export_onnx(module, TEXT, tmp_path / "packed.onnx", layout=Layout())
    export_onnx(module, TEXT, tmp_path / "model.onnx", layout=layout)

    answers = [
        onnxruntime.InferenceSession(tmp_path / name).run(None, {"input": sentences().numpy()})[0]
        for name in ("packed.onnx", "model.onnx")
    ]
    np.testing.assert_allclose(answers[0], answers[1], rtol=0, atol=1e-6)


def test_a_table_with_another_reader_stays_whole(tmp_path: Path) -> None:
    class Tied(Bag):
        def __init__(self) -> None:
            super().__init__(16)
            self.head = nn.Linear(16, ROWS, bias=False)
            self.head.weight = self.embedding["table"].weight

        def forward(self, ids: Tensor) -> Tensor:
            return super().forward(ids)[:, :3]

    module = quantize(Tied(), weight_bits=4, activation_bits=32, calibration={"input": sentences()})
    assert isinstance(module.get_submodule("embedding.table"), nn.Embedding)
    with torch.no_grad():
        wanted = module(sentences()).numpy()
    np.testing.assert_allclose(File(module, tmp_path / "m.onnx")(sentences()), wanted, rtol=0, atol=1e-6)


def test_shared_values_stay_a_table_of_floats(tmp_path: Path) -> None:
    module = quantize(
        encoder(), weight_bits=4, activation_bits=32, calibration=None, weight_format="codebook"
    )  # fmt: skip
    with torch.no_grad():
        wanted = module(sentences()).numpy()
    np.testing.assert_allclose(File(module, tmp_path / "m.onnx")(sentences()), wanted, rtol=0, atol=2e-6)


def test_tables_have_the_bits_of_the_layers_and_the_first_product_has_eight() -> None:
    module = quantize(encoder(), weight_bits=2, activation_bits=32, calibration=None)
    bits = {
        name: module.get_submodule(name).bits  # type: ignore[union-attr]
        for name in (
            "embedding.table.stored", "embedding.position.stored", "layers.0.attention.query.weight",
            "layers.1.mlp.inner.weight", "head.linear.weight",
        )
    }  # fmt: skip
    assert list(bits.values()) == [2, 2, 8, 2, 8]
