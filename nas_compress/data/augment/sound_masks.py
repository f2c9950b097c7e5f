"""Random masks on the spectrograms of sounds, as changes of their samples."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nas_compress.data.augment.spectrograms import SpecAugment, masks_along
from nas_compress.data.augment.transform_protocol import Transform, like
from nas_compress.errors import RequestError
from nas_compress.values.audio.log_mel import LogMel
from nas_compress.values.signature import TensorSpec


@dataclass(frozen=True, kw_only=True)
class SoundMasks(Transform):
    """Bands of frequencies and spans of time of a sound set to silence.

    The masks of `SpecAugment` in bands and frames of the spectrogram that a network makes first. A network takes raw
    samples, so the sound itself is changed: its Fourier transform loses these frequencies, and its samples the spans.
    The original method sets masks to the mean instead.
    """

    masks: SpecAugment
    log_mel: LogMel

    @property
    def numbers(self) -> int:
        """Size and place of each mask."""
        return self.masks.numbers

    def check(self, inputs: tuple[TensorSpec, ...]) -> None:
        """Require masks that are smaller than the spectrogram."""
        for spec in inputs:
            if spec.spectrogram_shape is None:
                raise RequestError(f"masks on sounds need sounds, but got {spec.name}: {spec.dtype} {spec.shape}")
            self.masks.require_smaller(*spec.spectrogram_shape, spec.name)

    def apply(self, values: Tensor, numbers: Tensor, mean: Tensor) -> Tensor:
        """Return the changed sounds, int16 (B, samples)."""
        window, hop = self.log_mel.window, self.log_mel.hop
        bands, spans = masks_along(self.masks, numbers, self.log_mel.bands, self.log_mel.frames(values.shape[1]))
        sounds = values.float()
        if self.masks.frequency:
            sounds = _without(sounds, self._frequencies(bands), window)
        # a frame is silent if all its samples are
        last = torch.arange(window, device=values.device)
        frames = torch.arange(spans.shape[1], device=values.device) * hop
        silent = torch.zeros_like(values, dtype=torch.bool)
        places = (frames[:, None] + last).reshape(1, -1).expand(len(values), -1)
        silent = silent.int().scatter_reduce(1, places, spans.int().repeat_interleave(window, dim=1), "amax").bool()
        return like(sounds.masked_fill(silent, 0).clamp(-32768, 32767), values.dtype)

    def _frequencies(self, bands: Tensor) -> Tensor:
        """Return True (B, bins) at the frequencies of the masked bands (B, bands)."""
        filters = torch.from_numpy(self.log_mel.filters() > 0).to(bands.device)
        return (bands[:, :, None] & filters).any(dim=1)


def _without(sounds: Tensor, frequencies: Tensor, window: int) -> Tensor:
    """Return sounds without frequencies. Half-overlapping Hann windows add up to 1, so other sounds stay the same.

    sounds: float32 (B, samples). frequencies: bool (B, window / 2 + 1).
    """
    hop, samples = window // 2, sounds.shape[1]
    ends = hop, window + (-samples) % hop
    frames = torch.nn.functional.pad(sounds, ends).unfold(1, window, hop)
    hann = torch.hann_window(window, device=sounds.device)
    spectrum = torch.fft.rfft(frames * hann, dim=2).masked_fill(frequencies[:, None, :], 0)
    parts = torch.fft.irfft(spectrum, n=window, dim=2)
    # the first half of each frame lies on the second half of the one before
    joined: Tensor = parts[:, 1:, :hop] + parts[:, :-1, hop:]
    return joined.reshape(len(sounds), -1)[:, :samples]
