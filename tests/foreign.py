"""Networks of other people: timm's, small, on raw samples of handwritten digits. Needs the extra `timm`."""

from __future__ import annotations

import importlib.util
from types import ModuleType
from typing import Any

import pytest
from torch import Tensor, nn

from nas_compress.teacher.libraries import load_timm

MODELS: dict[str, dict[str, Any]] = {
    "resnet10t": {"stem_width": 8, "channels": (16, 24, 32, 48)},
    "mobilenetv3_small_050": {},
    "vit_tiny_patch16_224": {"img_size": 16, "patch_size": 4, "embed_dim": 48, "depth": 2, "num_heads": 4},
}


def import_timm() -> ModuleType:
    """The package timm; the test is skipped where it is not installed."""
    if importlib.util.find_spec("timm") is None:
        pytest.skip("needs timm: pip install -c constraints.txt -e '.[timm]'")
    return load_timm()


class Raw(nn.Module):
    """A timm model on raw samples (N, 1, 8, 8), each of their pixels four times."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.larger = nn.Upsample(scale_factor=2)
        self.model = import_timm().create_model(name, num_classes=10, in_chans=1, **MODELS[name])

    def forward(self, samples: Tensor) -> Tensor:
        return self.model(self.larger(samples.float() / 8 - 1))
