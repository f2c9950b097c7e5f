"""SpecAugment on raw sounds: bands and spans of their spectrograms become silent."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nas_compress.data.audio.spectrogram import log_mel
from nas_compress.data.augment.sound_masks import SoundMasks
from nas_compress.data.augment.spectrograms import SpecAugment, masks_along
from nas_compress.errors import RequestError
from nas_compress.values.audio.log_mel import LogMel
from nas_compress.values.signature import TensorSpec

SETTINGS = LogMel.at_rate(8_000)
SAMPLES = 2_000
NO_MEAN = torch.zeros(1, 1)


def noise(count: int = 4) -> torch.Tensor:
    values = np.random.default_rng(0).normal(0, 5_000, (count, SAMPLES)).round()
    return torch.from_numpy(values.clip(-32_768, 32_767).astype(np.int16))


def masked(masks: SpecAugment, sounds: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    return SoundMasks(masks=masks, log_mel=SETTINGS).apply(sounds, numbers, NO_MEAN)


def test_a_mask_of_no_size_leaves_every_sample() -> None:
    sounds = noise()
    assert torch.equal(masked(SpecAugment(frequency=8, time=4), sounds, torch.zeros(4, 8).double()), sounds)


def test_masked_bands_and_spans_lose_their_power_and_the_rest_keeps_it() -> None:
    masks = SpecAugment(frequency=6, time=3, frequency_masks=1, time_masks=1)
    sounds, numbers = noise(), torch.rand(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    numbers[:, [0, 2]] = 0.99  # masks of the full size
    numbers[:, 1] = torch.linspace(0.5, 0.95, 4)  # bands of many frequencies
    bands, spans = (each.numpy() for each in masks_along(masks, numbers, SETTINGS.bands, SETTINGS.frames(SAMPLES)))
    assert bands.sum(axis=1).tolist() == [6] * 4 and spans.sum(axis=1).tolist() == [3] * 4
    before, after = (log_mel(each.numpy(), SETTINGS) for each in (sounds, masked(masks, sounds, numbers)))
    change = after - before
    silent = spans[:, None, :].repeat(SETTINGS.bands, axis=1)
    assert after[silent] == pytest.approx(np.log(1e-8), abs=0.01)
    # frames beside a silent span have half of their samples
    beside = np.pad(spans, ((0, 0), (1, 1)))
    kept = ~(spans | beside[:, 2:] | beside[:, :-2])
    inside = np.array([change[row][bands[row]][:, kept[row]][2:-2].mean() for row in range(4)])
    assert (inside < -4).all(), "the middle of a band must lose more than 98 % of its power"
    far = np.array([[not bands[row, max(0, band - 3) : band + 4].any() for band in range(32)] for row in range(4)])
    assert max(np.abs(change[row][far[row]][:, kept[row]]).max() for row in range(4)) < 0.2


def test_a_result_depends_on_the_own_numbers_of_a_sound_only() -> None:
    masks, sounds = SpecAugment(frequency=6, time=3), noise()
    numbers = torch.rand(4, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    together = masked(masks, sounds, numbers)
    alone = torch.cat([masked(masks, sounds[[row]], numbers[[row]]) for row in range(4)])
    assert (together.int() - alone.int()).abs().max() <= 1


def test_masks_as_large_as_the_spectrogram_and_other_inputs_are_refused() -> None:
    sound = TensorSpec(name="input", dtype="int16", shape=("N", SAMPLES), log_mel=SETTINGS)
    for masks, rule in (
        (SpecAugment(frequency=32), r"spec_augment.frequency < 32 \(of input\) must hold, but got 32"),
        (SpecAugment(time=14), r"spec_augment.time < 14 \(of input\) must hold, but got 14"),
    ):
        with pytest.raises(RequestError, match=rule):
            SoundMasks(masks=masks, log_mel=SETTINGS).check((sound,))
    with pytest.raises(RequestError, match="masks on sounds need sounds"):
        SoundMasks(masks=SpecAugment(time=1), log_mel=SETTINGS).check(
            (TensorSpec(name="input", dtype="int16", shape=("N", 3, 8)),)
        )
