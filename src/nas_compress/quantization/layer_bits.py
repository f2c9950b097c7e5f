"""Which layer's weights get how many bits."""

from __future__ import annotations

from torch import nn

from nas_compress.precision import END_BITS
from nas_compress.quantization.trainable import FakeQuantConv2d, FakeQuantLinear


def weight_layers(network: nn.Module) -> tuple[str, ...]:
    """Paths of the convolutions and linear layers whose weights can be quantized, each once, as they are registered."""
    return tuple(path for path, module in network.named_modules() if path and takes_bits(module))


def takes_bits(module: nn.Module) -> bool:
    """Whether a layer's weights can be stored in other bits.

    A convolution with another padding than zeros is two operations, which the float layer does best itself.
    """
    if type(module) is nn.Conv2d:
        return module.padding_mode == "zeros"
    return type(module) in (nn.Linear, FakeQuantConv2d, FakeQuantLinear)


def bits_by_layer(layers: tuple[str, ...], *, weight_bits: int) -> dict[str, int]:
    """Bits of each layer: `weight_bits`, but at least END_BITS for the first and the last one.

    >>> bits_by_layer(("stem", "body", "head"), weight_bits=2)
    {'stem': 8, 'body': 2, 'head': 8}
    """
    bits = dict.fromkeys(layers, weight_bits)
    for end in (*layers[:1], *layers[-1:]):
        bits[end] = max(weight_bits, END_BITS)
    return bits
