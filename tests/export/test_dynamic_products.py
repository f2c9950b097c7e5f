"""Integer products whose ranges the file finds while it runs: fused, exact for one sample, at any padding."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from nas_compress.devices.onnxruntime_cpu.kernel_check import float_kernels, optimised_operators
from nas_compress.errors import RequestError
from nas_compress.measurement.predictions import predict
from nas_compress.models.integer_ops import round_in_own_range
from nas_compress.quantization.layer_bits import weight_layers
from nas_compress.quantization.modules import DynamicActivation
from nas_compress.quantization.quantize import quantize
from nas_compress.quantization.training_aware import make_aware_
from nas_compress.trial.validity import check_candidate
from nas_compress.values.candidate import Candidate
from nas_compress.values.precision import Precision, Quantization
from token_networks import LENGTHS, File, encoder, sentences

CHOSEN = Quantization(ranges="dynamic")


@pytest.mark.parametrize("bits", [6, 4, 2])  # of at most 6 bits: no processor saturates
@pytest.mark.parametrize(
    "settings", [{}, {"norm": "pre", "positions": "rotary", "embedding_width": 5, "sharing": "all"}], ids=str
)
def test_the_file_multiplies_integers_and_answers_as_the_module(
    settings: dict[str, object], bits: int, tmp_path: Path
) -> None:
    network, path, samples = encoder(width=24, **settings), tmp_path / "model.onnx", sentences()
    module = quantize(
        network, weight_bits=8, activation_bits=8, calibration=None, ranges="dynamic",
        layer_bits=dict.fromkeys(weight_layers(network), bits),
    )  # fmt: skip
    file = File(module, path)
    with torch.no_grad():
        wanted = module(samples).numpy()
    alone = np.concatenate([file(samples[row : row + 1]) for row in range(len(samples))])
    np.testing.assert_allclose(alone, wanted, rtol=0, atol=5e-3)  # a tie may fall on the other side
    assert (predict(path, {"input": samples.numpy()})["logits"] == alone).all(), "measured one sample at a time"
    unpadded = np.concatenate([file(samples[row : row + 1, :length]) for row, length in enumerate(LENGTHS)])
    np.testing.assert_allclose(unpadded, alone, rtol=0, atol=0.15 * float(wanted.std()))
    operators = optimised_operators(path)
    assert float_kernels(path) == ()
    products = operators.count("DynamicQuantizeMatMul") + operators.count("MatMulIntegerToFloat")
    assert products == 2 * 6 + 1 + ("embedding_width" in settings)


def test_a_network_trained_with_own_ranges_is_not_recorded_as_if_it_had_none() -> None:
    network, samples = encoder(width=24), {"input": sentences()}
    bits = dict.fromkeys(weight_layers(network), 4)
    make_aware_(network, method="lsq", bits=bits, activation_bits=8, calibration=samples, ranges="dynamic")
    module = quantize(
        network, weight_bits=4, activation_bits=8, calibration=samples, ranges="dynamic", layer_bits=bits
    )  # fmt: skip
    points = [sum(isinstance(each, DynamicActivation) for each in one.modules()) for one in (network, module)]
    assert type(module) is type(network) and points[0] == points[1] > 0


def test_a_sample_is_rounded_in_its_own_range() -> None:
    values = torch.tensor([[-1.0, 1.55, 0.004], [0.0, 0.0, 0.0], [2.55, 0.014, 0.0]])
    wanted = torch.tensor([[-1.0, 1.55, 0.0], [0.0, 0.0, 0.0], [2.55, 0.01, 0.0]])
    torch.testing.assert_close(round_in_own_range(values, 1), wanted)


def test_rows_of_one_sample_have_one_range() -> None:
    values = torch.tensor([[2.55], [0.014], [0.0255], [0.0001]])
    torch.testing.assert_close(round_in_own_range(values, 2), torch.tensor([[2.55], [0.01], [0.0255], [0.0001]]))


def test_gradients_pass_the_rounding() -> None:
    values = torch.randn(2, 3, requires_grad=True)
    rounded = DynamicActivation()(values)
    torch.testing.assert_close(rounded, round_in_own_range(values.detach(), 1))
    rounded.sum().backward()
    assert values.grad is not None and bool((values.grad == 1).all())


def test_other_families_and_bits_are_refused() -> None:
    for family in ("encoder", "vit"):
        check_candidate(Candidate(family=family, depths=(1,), weight_bits=8, activation_bits=8, quantization=CHOSEN))
    for family, depths in (("text_cnn", (1,)), ("resnet", (1, 1, 1)), ("pruned", ())):
        candidate = Candidate(
            family=family, depths=depths, weight_bits=8, activation_bits=8, quantization=CHOSEN
        )  # fmt: skip
        with pytest.raises(RequestError, match="ranges='dynamic' needs a family of encoder layers"):
            check_candidate(candidate)
    with pytest.raises(RequestError, match="activation_bits=8 must hold for ranges='dynamic'"):
        Precision(weight_bits=8, activation_bits=4, quantization=CHOSEN)
    floats = replace(Precision(weight_bits=8, activation_bits=8, quantization=CHOSEN), activation_bits=32)
    assert floats.quantization.ranges == "min_max"
