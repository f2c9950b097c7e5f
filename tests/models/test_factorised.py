"""Layers as products of thinner ones."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from image_files import export_images, predict_logits
from nas_compress.devices.onnxruntime_cpu.kernel_check import float_kernels, optimised_operators
from nas_compress.errors import RequestError
from nas_compress.models.factorised import Factorised, channel_svd, factorise_, low_rank, tucker
from nas_compress.models.families import FAMILIES
from nas_compress.quantization.layer_bits import bits_by_layer, weight_layers
from nas_compress.quantization.quantize import quantize
from nas_compress.quantization.training_aware import make_aware_
from nas_compress.trial.context import TrialContext
from nas_compress.trial.run import run_trial
from nas_compress.values.candidate import PRUNED, Candidate
from processors import skip_if_saturated, skip_if_saturation_explains

IMAGES = torch.randn(2, 16, 9, 7, generator=torch.Generator().manual_seed(0))


def convolution(**settings: object) -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(16, 24, 3, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("settings", [{}, {"stride": 2, "padding": 1}, {"dilation": 2, "bias": False}])
def test_full_rank_equals_the_dense_layer(settings: dict[str, object]) -> None:
    layer = convolution(**settings)
    for thin in (channel_svd(layer, 24), tucker(layer, 16, 24)):
        torch.testing.assert_close(thin(IMAGES), layer(IMAGES), rtol=1e-5, atol=1e-5)
    dense = nn.Linear(16, 24)
    values = torch.randn(5, 16)
    torch.testing.assert_close(low_rank(dense, 16)(values), dense(values), rtol=1e-5, atol=1e-5)


def test_the_error_is_what_the_dropped_singular_values_say() -> None:
    layer = nn.Linear(20, 12, bias=False)
    values = torch.linalg.svdvals(layer.weight.detach())
    thin = low_rank(layer, 8)
    product = thin[2].weight @ thin[0].weight
    assert (product - layer.weight).norm().item() == pytest.approx(values[8:].norm().item(), rel=1e-4)
    assert thin[0].weight.norm().item() == pytest.approx(thin[2].weight.norm().item(), rel=1e-4)


def test_parameters_by_hand() -> None:
    layer = convolution(bias=False)
    counts = [sum(p.numel() for p in thin.parameters()) for thin in (channel_svd(layer, 8), tucker(layer, 8, 8))]
    assert counts == [8 * (16 * 9 + 24), 16 * 8 + 9 * 8 * 8 + 8 * 24]


def test_only_what_gets_smaller_is_factorised() -> None:
    network = nn.Sequential(convolution(), nn.Conv2d(24, 24, 3, groups=24), nn.Conv2d(24, 8, 1), nn.Linear(64, 64))
    factorise_(network, rank_fraction=0.25, kind="tucker")
    assert [type(layer) for layer in network] == [Factorised, nn.Conv2d, nn.Conv2d, Factorised]
    assert len(network[0]) == 5 and len(network[3]) == 3


@pytest.mark.parametrize(
    ("family", "kind", "bits"),
    [
        ("resnet", "tucker", (32, 32)),
        ("resnet", "low_rank", (8, 8)),
        ("vit", "low_rank", (8, 8)),
        pytest.param("mobilenet", "tucker", (8, 32), marks=pytest.mark.slow),
        pytest.param("vit", "low_rank", (32, 32), marks=pytest.mark.slow),
        pytest.param(PRUNED, "tucker", (8, 32), marks=pytest.mark.slow),
    ],
)
def test_it_trains_and_ships(
    family: str, kind: str, bits: tuple[int, int], context: TrialContext, tmp_path: Path
) -> None:
    depths = () if family == PRUNED else (1,) * len(FAMILIES[family].base_depths)
    dense = Candidate(family=family, depths=depths, weight_bits=bits[0], activation_bits=bits[1])
    thin = replace(dense, factorization=kind, rank_fraction=0.5)
    outcomes = [run_trial(one, context, seed=0, model=tmp_path / "model.onnx") for one in (dense, thin)]
    for outcome in outcomes:
        skip_if_saturated(outcome)
    assert [outcome.state for outcome in outcomes] == ["trained"] * 2, outcomes[1].reason
    whole, split = (outcome.measured for outcome in outcomes)
    assert whole is not None and split is not None
    assert all(split.figures[name] < whole.figures[name] for name in ("parameters", "macs"))
    assert split.agreement is not None
    least = 0.95 if bits[1] == 8 else 0.999
    if bits[1] == 8:
        images = context.dataset.validation.inputs["input"].numpy()
        skip_if_saturation_explains(split.agreement, least=least, path=tmp_path / "model.onnx", images=images)
    assert split.agreement >= least
    # a transformer ships in the form that measured faster
    assert bits[1] == 32 or family == "vit" or not float_kernels(tmp_path / "model.onnx"), "thin layers have no bias"


@pytest.mark.parametrize("method", ["lsq", "ste"])
def test_thin_layers_are_frozen_to_what_they_were_trained_with(trained, method: str, tmp_path: Path) -> None:
    network = deepcopy(trained["resnet"])
    factorise_(network, rank_fraction=0.5, kind="tucker")
    layers = bits_by_layer(weight_layers(network), weight_bits=4)
    samples = torch.randint(0, 17, (200, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    make_aware_(network.train(), method=method, bits=layers, activation_bits=8, calibration={"input": samples})
    network(samples)
    with torch.no_grad():
        expected = network.eval()(samples)
    path = tmp_path / "model.onnx"
    export_images(quantize(network, weight_bits=4, activation_bits=8, calibration=None), (1, 8, 8), path)
    assert not float_kernels(path) and "BatchNormalization" not in optimised_operators(path)
    answers = torch.from_numpy(predict_logits(path, samples.numpy()))
    assert (answers.argmax(1) == expected.argmax(1)).float().mean() > 0.95


@pytest.mark.parametrize("change", [{"factorization": "tucker"}, {"rank_fraction": 0.5}, {"factorization": "svd"}])
def test_a_factorization_needs_a_fraction(change: dict[str, object]) -> None:
    with pytest.raises(RequestError, match=r"0 < rank_fraction < 1 must hold|factorization must be a known name"):
        Candidate(family="resnet", depths=(1, 1, 1), **change)  # type: ignore[arg-type]
