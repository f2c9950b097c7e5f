"""Spectrograms of sounds inside networks and their files, against a reference in 64-bit NumPy."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nas_compress.data.audio.spectrogram import log_mel, spectrogram_normalisation
from nas_compress.devices.onnx_session import file_signature, open_session
from nas_compress.errors import RequestError
from nas_compress.export.onnx_file import export_onnx
from nas_compress.models.families import FAMILIES, build_student
from nas_compress.models.inputs.spectrogram import SpectrogramInput
from nas_compress.values.architecture import Architecture, Width
from nas_compress.values.audio.log_mel import FLOOR, FULL_SCALE, LogMel
from nas_compress.values.normalisation import Normalisation
from nas_compress.values.signature import Signature, TensorSpec

SETTINGS = LogMel.at_rate(8_000)
SAMPLES = 2_048
PLAIN = Normalisation(mean=(0.0,) * SETTINGS.bands, std=(1.0,) * SETTINGS.bands)

BOUND = 2e-3
"""Largest difference of a logarithm: float sums have errors near 1e-7 of the loudest tone, 80 dB above the floor."""

OF_TABLES = 4e-4
"""Largest difference between module and file, which makes its tables itself."""


def sounds() -> NDArray[np.int16]:
    """Silence, a sine, a clipped sine, a chirp, noise, and the smallest noise."""
    time, random = np.arange(SAMPLES) / SETTINGS.rate, np.random.default_rng(0)
    waves = [
        np.zeros(SAMPLES),
        32_767 * np.sin(2 * np.pi * 440 * time),
        90_000 * np.sin(2 * np.pi * 1_000 * time),
        10_000 * np.sin(2 * np.pi * (100 * time + 5_000 * time**2)),
        random.normal(0, 9_000, SAMPLES),
        random.integers(-1, 2, SAMPLES),
    ]
    return np.clip(np.round(waves), -32_768, 32_767).astype(np.int16)


class Alone(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.input = SpectrogramInput(SETTINGS, PLAIN)

    def forward(self, samples: Tensor) -> Tensor:
        values: Tensor = self.input(samples)
        return values


def spec() -> TensorSpec:
    return TensorSpec(name="input", dtype="int16", shape=("N", SAMPLES), log_mel=SETTINGS)


def test_a_sine_of_full_scale_has_power_one_at_its_frequency() -> None:
    frequency = 16  # 500 Hz, the centre of a bin; a Hann window gives a quarter of the power to both neighbours
    wave = np.cos(2 * np.pi * frequency * np.arange(SAMPLES) / SETTINGS.window) * FULL_SCALE
    found = log_mel(wave[None], SETTINGS)[0, :, 0]
    triangle = SETTINGS.filters()[:, frequency - 1 : frequency + 2]
    np.testing.assert_allclose(found, np.log(triangle @ [0.25, 1, 0.25] + FLOOR), atol=1e-6)
    assert found.argmax() == np.abs(SETTINGS.edges()[1:-1] - 500).argmin()


def test_silence_and_the_loudest_samples_have_finite_values() -> None:
    ends = np.array([[0] * 256, [-32_768] * 256, [32_767, -32_768] * 128], dtype=np.int16)
    found = log_mel(ends, SETTINGS)
    assert found[0] == pytest.approx(math.log(FLOOR)) and np.isfinite(found).all()
    assert found[2].argmax() == SETTINGS.bands - 1, "alternating samples are the highest frequency"


@pytest.mark.parametrize("backend", ["torchscript", pytest.param("dynamo", marks=pytest.mark.slow)])
def test_module_and_file_have_the_values_of_the_reference_and_the_file_stores_no_table(
    backend: str, tmp_path: Path
) -> None:
    samples, network, path = sounds(), Alone().eval(), tmp_path / "spectrogram.onnx"
    frames = SETTINGS.frames(SAMPLES)
    output = TensorSpec(name="values", dtype="float32", shape=("N", SETTINGS.bands, frames))
    signature = Signature(inputs=(spec(),), outputs=(output,))
    export_onnx(network, signature, path, backend=backend)  # type: ignore[arg-type]
    (from_file,) = open_session(path, signature=signature).run(None, {"input": samples})
    with torch.no_grad():
        from_module = network(torch.from_numpy(samples)).numpy()
    expected = log_mel(samples, SETTINGS)
    np.testing.assert_allclose(from_module, expected, atol=BOUND, rtol=0)
    np.testing.assert_allclose(from_file, expected, atol=BOUND, rtol=0)
    np.testing.assert_allclose(from_file, from_module, atol=OF_TABLES, rtol=0)
    tables = 4 * (network.input.kernels.numel() + network.input.filters.numel())
    assert path.stat().st_size < 4_000 < tables / 50
    assert file_signature(path).inputs[0].log_mel == SETTINGS


@pytest.mark.parametrize("family", ["conv1d", "recurrent", "mlp", "resnet", "mobilenet", "vit"])
def test_families_of_series_and_images_take_sounds(family: str, tmp_path: Path) -> None:
    samples, known = sounds(), FAMILIES[family]
    logits = TensorSpec(name="logits", dtype="float32", shape=("N", 3))
    signature = Signature(inputs=(spec(),), outputs=(logits,))
    assert known.fits(signature) and Signature.from_dict(signature.to_dict()) == signature
    depths = (1,) * len(known.base_depths)
    architecture = Architecture(
        family=family,
        signature=signature,
        normalisation={"input": spectrogram_normalisation(samples, SETTINGS)},
        depths=depths,
        widths=tuple(Width(layer=name, asked=8, channels=8) for name, _ in known.layers(depths, (8,) * len(depths))),
    )
    torch.manual_seed(0)
    network = build_student(known.complete(architecture)).eval()
    assert Architecture.from_dict(architecture.to_dict()) == architecture
    export_onnx(network, signature, tmp_path / "model.onnx")
    session = open_session(tmp_path / "model.onnx", signature=signature)
    (found,) = session.run(None, {"input": samples})
    with torch.no_grad():
        expected = network(torch.from_numpy(samples)).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-3, rtol=0)
    one_by_one = [session.run(None, {"input": samples[[place]]})[0][0] for place in range(len(samples))]
    np.testing.assert_allclose(one_by_one, found, atol=1e-5, rtol=0)


def test_the_statistics_are_those_of_each_band() -> None:
    values = log_mel(sounds(), SETTINGS)
    found = spectrogram_normalisation(sounds(), SETTINGS)
    np.testing.assert_allclose(found.mean, values.mean(axis=(0, 2)), rtol=1e-9)
    np.testing.assert_allclose(found.std, values.std(axis=(0, 2)), rtol=1e-9)
    silent = spectrogram_normalisation(np.zeros((2, 512), dtype=np.int16), SETTINGS)
    assert set(silent.std) == {1.0} and silent.mean[0] == pytest.approx(math.log(FLOOR))  # type: ignore[index]


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 192_000])
def test_every_band_has_a_frequency_at_usual_rates(rate: int) -> None:
    settings = LogMel.at_rate(rate)
    assert 0.02 < settings.window / rate < 0.05 and settings.filters().any(axis=1).all()
    assert LogMel.from_metadata(settings.metadata()) == settings


@pytest.mark.parametrize("broken", ["", "8000 256 128", "a b c d", "8000 1000000000 1 32", "8000 256 128 0"])
def test_broken_settings_in_a_file_are_refused(broken: str) -> None:
    with pytest.raises(RequestError, match=r"must be four numbers|must hold"):
        LogMel.from_metadata({"log_mel": broken})


def test_too_many_bands_and_too_short_sounds_are_refused_in_one_line() -> None:
    with pytest.raises(RequestError, match=r"^mels <= \d+ must hold at 8000 samples per second.*but got mels=200$"):
        LogMel.at_rate(8_000, bands=200)
    with pytest.raises(RequestError, match=r"^a sound must have 256 samples \(a window\) or more, but got 255$"):
        TensorSpec(name="input", dtype="int16", shape=("N", 255), log_mel=SETTINGS)
    with pytest.raises(RequestError, match="sounds must be int16"):
        TensorSpec(name="input", dtype="uint8", shape=("N", 512), log_mel=SETTINGS)
