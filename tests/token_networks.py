"""Small encoders of tokens, and padded sentences of several lengths for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from nas_compress.export.onnx_file import export_onnx
from nas_compress.models.families import FAMILIES, build_student
from nas_compress.models.networks.encoder import TokenEncoder
from nas_compress.values.architecture import Architecture, Width
from nas_compress.values.family_settings import EncoderSettings
from nas_compress.values.signature import Signature

LENGTHS = (11, 1, 4, 7, 11)
TEXT = Signature.of_tokens(vocabulary=50, classes=3)


def encoder(*, depth: int = 2, width: int = 12, **settings: object) -> TokenEncoder:
    """An untrained encoder with three heads, unless the settings say otherwise."""
    family, chosen = FAMILIES["encoder"], EncoderSettings(**{"heads": 3, **settings})  # type: ignore[arg-type]
    layers = [each for each in family.layers((depth,), (width,), chosen) if not family.repeats(each[0], chosen)]
    widths = tuple(Width(layer=layer, asked=0.0, channels=channels) for layer, channels in layers)
    torch.manual_seed(0)
    network = build_student(
        Architecture(family="encoder", signature=TEXT, depths=(depth,), widths=widths, settings=chosen)
    )
    assert isinstance(network, TokenEncoder)
    return network.eval()


def sentences() -> Tensor:
    """Five padded sentences of the lengths above."""
    drawn = torch.randint(1, 50, (len(LENGTHS), max(LENGTHS)), dtype=torch.int32, generator=torch.manual_seed(1))
    for row, length in enumerate(LENGTHS):
        drawn[row, length:] = 0
    return drawn


class File:
    """The exported file of a network of tokens, called like the network."""

    def __init__(self, network: nn.Module, path: Path, signature: Signature = TEXT) -> None:
        export_onnx(network, signature, path)
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def __call__(self, samples: Tensor) -> np.ndarray:
        return self.session.run(None, {"input": samples.numpy()})[0]  # type: ignore[no-any-return]
