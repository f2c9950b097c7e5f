"""Recurrent networks: hand-written cells, torch, and the shipped file give the same numbers at any padding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas_compress.devices.onnxruntime_cpu.kernel_check import float_kernels, optimised_operators
from nas_compress.errors import RequestError
from nas_compress.export.onnx_file import export_onnx
from nas_compress.measurement.onnx_macs import count_onnx_macs
from nas_compress.measurement.predictions import predict
from nas_compress.models.families import FAMILIES, build_student
from nas_compress.models.macs import count_macs, recurrent_macs
from nas_compress.models.networks.recurrent import RecurrentNetwork
from nas_compress.models.networks.recurrent_layer import RecurrentLayer
from nas_compress.quantization.layer_bits import weight_layers
from nas_compress.quantization.quantize import quantize
from nas_compress.values.architecture import Architecture, Width
from nas_compress.values.family_settings import CELLS, STATE_POOLINGS, RecurrentSettings
from nas_compress.values.signature import Signature, TensorSpec

LENGTHS = (11, 1, 4, 7, 11)
TEXT = Signature.of_tokens(vocabulary=50, classes=3)
SERIES = Signature(
    inputs=(TensorSpec(name="input", dtype="float32", shape=("N", 5, 11)),), outputs=TEXT.outputs
)  # fmt: skip
WITHIN = 1e-6


def network_of(signature: Signature, settings: RecurrentSettings, *, depth: int = 1, width: int = 6) -> nn.Module:
    layers = FAMILIES["recurrent"].layers((depth,), (width,), settings)
    widths = tuple(Width(layer=layer, asked=0.0, channels=width + 2 * place) for place, (layer, _) in enumerate(layers))
    torch.manual_seed(0)
    return build_student(
        Architecture(family="recurrent", signature=signature, depths=(depth,), widths=widths, settings=settings)
    ).eval()


def ids() -> Tensor:
    """Five padded sentences of the lengths above."""
    drawn = torch.randint(1, 50, (len(LENGTHS), max(LENGTHS)), dtype=torch.int32, generator=torch.manual_seed(1))
    for row, length in enumerate(LENGTHS):
        drawn[row, length:] = 0
    return drawn


def step(cell: str, values: Tensor, state: tuple[Tensor, Tensor], weights: list[Tensor]) -> tuple[Tensor, Tensor]:
    """One step of a cell, written out. state: hidden and cell state (H,)."""
    of_input, of_state, input_bias, state_bias = weights
    hidden, memory = state
    given, before = of_input @ values + input_bias, of_state @ hidden + state_bias
    if cell == "rnn":
        return torch.tanh(given + before), memory
    if cell == "lstm":
        i, f, g, o = (given + before).chunk(4)
        memory = f.sigmoid() * memory + i.sigmoid() * g.tanh()
        return o.sigmoid() * memory.tanh(), memory
    (r, z, n), (r_before, z_before, n_before) = given.chunk(3), before.chunk(3)
    z = (z + z_before).sigmoid()
    return (1 - z) * (n + (r + r_before).sigmoid() * n_before).tanh() + z * hidden, memory


def by_hand(layer: RecurrentLayer, sequence: Tensor) -> tuple[Tensor, Tensor]:
    """All states (T, D * H) of one sequence (T, E), and the last ones (D * H,); the second cell reads it flipped."""
    outputs, last = [], []
    for direction in range(len(layer.weights) // 4):
        weights = layer.weights[4 * direction : 4 * direction + 4]
        state = torch.zeros(layer.hidden_size), torch.zeros(layer.hidden_size)
        states = []
        for values in sequence.flip(0) if direction else sequence:
            state = step(layer.cell, values, state, weights)
            states.append(state[0])
        made = torch.stack(states)
        outputs.append(made.flip(0) if direction else made)
        last.append(state[0])
    return torch.cat(outputs, dim=1), torch.cat(last)


every_cell = pytest.mark.parametrize("cell", CELLS)
every_direction = pytest.mark.parametrize("bidirectional", [False, True])


@every_cell
@every_direction
def test_a_layer_is_the_cell_written_out(cell: str, bidirectional: bool) -> None:
    torch.manual_seed(2)
    layer = RecurrentLayer(4, 3, cell=cell, bidirectional=bidirectional)
    values, lengths = torch.randn(7, 3, 4), torch.tensor([7, 2, 5], dtype=torch.int32)
    with torch.no_grad():
        states, last = layer(values, lengths)
        for sample, length in enumerate(lengths.tolist()):
            wanted, wanted_last = by_hand(layer, values[:length, sample])
            torch.testing.assert_close(states[:length, sample], wanted, rtol=0, atol=WITHIN)
            torch.testing.assert_close(last[sample], wanted_last, rtol=0, atol=WITHIN)
            assert not states[length:, sample].any()


@every_cell
@every_direction
@pytest.mark.parametrize(("depth", "weight_bits"), [(1, 32), (2, 32), (2, 4)])
def test_the_file_answers_as_the_network_at_any_length(
    cell: str, bidirectional: bool, depth: int, weight_bits: int, tmp_path: Path
) -> None:
    samples = ids()
    for pooling in STATE_POOLINGS:
        network = network_of(
            TEXT, RecurrentSettings(cell=cell, bidirectional=bidirectional, pooling=pooling), depth=depth
        )
        if weight_bits < 32:
            network = quantize(network, weight_bits=weight_bits, activation_bits=32, calibration=None)
        with torch.no_grad():
            wanted = network(samples).numpy()
            padded = network(F.pad(samples, (0, 9))).numpy()
        np.testing.assert_allclose(padded, wanted, rtol=0, atol=WITHIN)
        session = exported(network, TEXT, tmp_path)
        found = session(samples)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=WITHIN)
        alone = [session(samples[row : row + 1, :length]) for row, length in enumerate(LENGTHS)]
        np.testing.assert_allclose(np.concatenate(alone), wanted, rtol=0, atol=WITHIN)
        # the order of the additions of a mean depends on their number
        np.testing.assert_allclose(
            session(F.pad(samples, (0, 9))), found, rtol=0, atol=WITHIN if pooling == "mean" else 0
        )
        order = torch.tensor([3, 1, 0, 4, 2])
        np.testing.assert_allclose(session(samples[order]), found[order], rtol=0, atol=WITHIN)


class Session:
    """A file that is called like its network."""

    def __init__(self, path: Path) -> None:
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def __call__(self, samples: Tensor) -> np.ndarray:
        return self.session.run(None, {"input": samples.numpy()})[0]  # type: ignore[no-any-return]


def exported(network: nn.Module, signature: Signature, folder: Path) -> Session:
    export_onnx(network, signature, folder / "model.onnx")
    return Session(folder / "model.onnx")


@every_direction
@pytest.mark.parametrize(("signature", "bits"), [(TEXT, 6), (SERIES, 3)])
def test_integer_products_are_those_of_the_runtime_for_one_sample(
    bidirectional: bool, signature: Signature, bits: int, tmp_path: Path
) -> None:
    samples = ids() if signature is TEXT else torch.randn(5, 5, 11, generator=torch.manual_seed(3))
    network = network_of(signature, RecurrentSettings(bidirectional=bidirectional), depth=2, width=16)
    layers = dict.fromkeys(weight_layers(network), bits)  # of at most 6 bits: no processor saturates
    network = quantize(
        network, weight_bits=8, activation_bits=8, calibration={"input": samples}, layer_bits=layers
    )  # fmt: skip
    with torch.no_grad():
        wanted = network(samples).numpy()
        reordered = network(samples[[3, 1, 0, 4, 2]])[[2, 1, 4, 0, 3]].numpy()
    np.testing.assert_allclose(reordered, wanted, rtol=0, atol=WITHIN)
    session = exported(network, signature, tmp_path)
    alone = np.concatenate([session(samples[row : row + 1]) for row in range(5)])
    np.testing.assert_allclose(alone, wanted, rtol=0, atol=5e-3)  # a tie may fall on the other side
    assert (np.abs(alone - wanted) < WITHIN).mean() > 0.7
    measured = predict(tmp_path / "model.onnx", {"input": samples.numpy()})["logits"]
    assert (measured == alone).all(), "one sample at a time: the ranges of a batch change its answers"
    assert np.abs(session(samples) - alone).max() < 0.05
    if signature is TEXT:
        short = [session(samples[row : row + 1, :length]) for row, length in enumerate(LENGTHS)]
        assert (np.concatenate(short) == alone).all()
    assert float_kernels(tmp_path / "model.onnx") == ()
    assert optimised_operators(tmp_path / "model.onnx").count("DynamicQuantizeLSTM") == 2


@pytest.mark.parametrize("left", ["weight_ih_l0_reverse", "weight_hh_l0"])
def test_a_layer_with_a_float_weight_computes_in_floats(left: str, tmp_path: Path) -> None:
    samples = ids()
    network = network_of(TEXT, RecurrentSettings(), depth=2)
    bits = {layer: 4 for layer in weight_layers(network) if layer != f"stages.0.0.{left}"}
    small = quantize(network, weight_bits=8, activation_bits=8, calibration={"input": samples}, layer_bits=bits)
    with torch.no_grad():
        wanted = small(samples).numpy()
    session = exported(small, TEXT, tmp_path)
    alone = np.concatenate([session(samples[row : row + 1]) for row in range(5)])
    np.testing.assert_allclose(alone, wanted, rtol=0, atol=5e-3)
    operators = optimised_operators(tmp_path / "model.onnx")
    assert operators.count("LSTM") == operators.count("DynamicQuantizeLSTM") == 1


def test_weights_of_few_bits_take_few_bytes(tmp_path: Path) -> None:
    sizes = {}
    for weight_bits, activation_bits in ((32, 32), (8, 32), (8, 8), (3, 8)):
        network = network_of(SERIES, RecurrentSettings(), depth=2, width=32)
        calibration = {"input": torch.randn(5, 5, 11)}
        bits = dict.fromkeys(weight_layers(network), weight_bits) if weight_bits < 32 else None
        quantized = quantize(
            network, weight_bits=8, activation_bits=activation_bits, calibration=calibration, layer_bits=bits
        )
        exported(network if weight_bits == 32 else quantized, SERIES, tmp_path)
        sizes[weight_bits, activation_bits] = (tmp_path / "model.onnx").stat().st_size
    numbers = sum(value.numel() for value in network.parameters())
    assert 4 * numbers < sizes[32, 32] < 4 * numbers + 2000
    for form in ((8, 32), (8, 8), (3, 8)):
        assert sizes[form] < numbers * form[0] / 8 + 9000, form  # scales and biases of 16 bits


def test_only_an_lstm_has_integer_products(tmp_path: Path) -> None:
    family, settings = FAMILIES["recurrent"], RecurrentSettings(cell="gru")
    family.require_activation_bits(32, settings)
    family.require_activation_bits(8, RecurrentSettings())
    for bits, cell in ((8, "gru"), (8, "rnn"), (4, "lstm")):
        with pytest.raises(RequestError, match=f"but got activation_bits={bits} with cell='{cell}'; weight_bits"):
            family.require_activation_bits(bits, RecurrentSettings(cell=cell))
    samples = torch.randn(5, 5, 11)
    network = quantize(
        network_of(SERIES, settings), weight_bits=8, activation_bits=8, calibration={"input": samples}
    )  # fmt: skip
    exported(network, SERIES, tmp_path)
    assert "GRU" in float_kernels(tmp_path / "model.onnx")


@every_cell
@every_direction
def test_a_series_is_read_step_by_step(cell: str, bidirectional: bool, tmp_path: Path) -> None:
    samples = torch.randn(4, 5, 11)
    for pooling in STATE_POOLINGS:
        network = network_of(
            SERIES, RecurrentSettings(cell=cell, bidirectional=bidirectional, pooling=pooling), depth=2
        )
        with torch.no_grad():
            wanted = network(samples).numpy()
        np.testing.assert_allclose(exported(network, SERIES, tmp_path)(samples), wanted, rtol=0, atol=WITHIN)


@pytest.mark.slow  # the second exporter takes seconds
@pytest.mark.parametrize(("signature", "cell", "activation_bits"), [(TEXT, "gru", 32), (SERIES, "lstm", 8)])
def test_both_exporters_write_the_same_layers(
    signature: Signature, cell: str, activation_bits: int, tmp_path: Path
) -> None:
    pytest.importorskip("onnxscript")
    samples = ids() if signature is TEXT else torch.randn(5, 5, 11)
    network = network_of(signature, RecurrentSettings(cell=cell), depth=2)
    small = quantize(
        network, weight_bits=4, activation_bits=activation_bits, calibration={"input": samples}
    )  # fmt: skip
    traced = exported(small, signature, tmp_path)
    export_onnx(small, signature, tmp_path / "dynamo.onnx", backend="dynamo")
    for rows in (samples, samples[1:2]):
        np.testing.assert_allclose(Session(tmp_path / "dynamo.onnx")(rows), traced(rows), rtol=0, atol=WITHIN)
    operators = [optimised_operators(tmp_path / name) for name in ("model.onnx", "dynamo.onnx")]
    assert operators[0].count("GRU") + operators[0].count("DynamicQuantizeLSTM") == 2
    assert sorted(operators[0]) == sorted(operators[1])


def test_the_features_are_the_steps_of_each_layer() -> None:
    network = network_of(TEXT, RecurrentSettings(embedding_width=7), depth=2)
    assert isinstance(network, RecurrentNetwork)
    seen = network.observe(ids())
    assert {name: tuple(value.shape) for name, value in seen.features.items()} == {
        "embedding": (5, 11, 7),
        "layer0": (5, 11, 12),
        "layer1": (5, 11, 16),
    }


@every_cell
def test_multiply_adds_are_counted_by_hand(cell: str, tmp_path: Path) -> None:
    gates = {"rnn": 1, "lstm": 4, "gru": 3}[cell]
    network = network_of(TEXT, RecurrentSettings(cell=cell, embedding_width=7, pooling="last"), width=6)
    wanted = 2 * 11 * gates * 6 * (7 + 6) + 12 * 3 + 3
    sample = {"input": ids()[:1]}
    assert count_macs(network, sample) == wanted
    export_onnx(network, TEXT, tmp_path / "model.onnx")
    arrays = {"input": sample["input"].numpy()}
    assert count_onnx_macs((tmp_path / "model.onnx").read_bytes(), arrays) == wanted
    projected = nn.LSTM(5, 4, proj_size=2)
    assert recurrent_macs(projected, 3) == 3 * (16 * 5 + 16 * 2 + 4 * 2)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"cell": "qrnn"}, "cell must be a known name, but got 'qrnn'"),
        ({"pooling": "class_token"}, "pooling must be a known name, but got 'class_token'"),
        ({"bidirectional": 1}, "bidirectional must be true or false, but got bidirectional=1"),
        ({"embedding_width": 0}, "embedding_width must be a whole number of at least 1, but got embedding_width=0"),
    ],
)
def test_impossible_settings_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(RequestError) as caught:
        RecurrentSettings(**values)  # type: ignore[arg-type]
    assert message in str(caught.value)
