"""Table of families, and a function to build any of them."""

from __future__ import annotations

from collections.abc import Mapping

from nas_compress.errors import refusal, require_known
from nas_compress.models.factorised import factorise_
from nas_compress.models.family import AnyFamily
from nas_compress.models.features import ObservableNetwork, OneInputNetwork
from nas_compress.models.input_output_scaling import with_preparation
from nas_compress.models.networks.conv1d import Conv1d
from nas_compress.models.networks.encoder import Encoder
from nas_compress.models.networks.mlp import Perceptron
from nas_compress.models.networks.mobilenet import MobileNet
from nas_compress.models.networks.recurrent import Recurrent
from nas_compress.models.networks.resnet import ResNet
from nas_compress.models.networks.text_bag import TextBag
from nas_compress.models.networks.text_cnn import TextCNN
from nas_compress.models.networks.unet import UNet
from nas_compress.models.networks.vit import ViT
from nas_compress.values.architecture import Architecture
from nas_compress.values.family_settings import PRUNED
from nas_compress.values.signature import Signature

FAMILIES: Mapping[str, AnyFamily] = {
    "resnet": ResNet(),
    "mobilenet": MobileNet(),
    "vit": ViT(),
    "mlp": Perceptron(),
    "conv1d": Conv1d(),
    "unet": UNet(),
    "encoder": Encoder(),
    "recurrent": Recurrent(),
    "text_bag": TextBag(),
    "text_cnn": TextCNN(),
}
"""Every family by its name."""


def family_named(name: str, where: str = "") -> AnyFamily:
    """The family of that name; RequestError names the nearest one."""
    require_known("a family", name, FAMILIES, where)
    return FAMILIES[name]


def require_fitting(name: str, signature: Signature, where: str = "") -> None:
    """Raise RequestError unless the family builds networks of these inputs and outputs. `pruned` always does."""
    if name == PRUNED or family_named(name, where).fits(signature):
        return
    fitting = [known for known, family in FAMILIES.items() if family.fits(signature)]
    tensors = " -> ".join(
        ", ".join(f"{spec.name} ({', '.join(map(str, spec.shape))})" for spec in specs)
        for specs in (signature.inputs, signature.outputs)
    )
    raise refusal(
        f"a family must build networks of the task's inputs and outputs, {tensors}, but got {name!r}; "
        f"fitting families: {', '.join([*fitting, PRUNED])} (of teacher.factory)",
        where,
    )


def build_student(architecture: Architecture) -> ObservableNetwork:
    """A network of that architecture with fresh weights from torch's global random state.

    >>> import torch
    >>> from nas_compress.values.architecture import Width
    >>> layers = FAMILIES["resnet"].layers((1, 1, 1), (8, 16, 16))
    >>> network = build_student(Architecture.of_images(
    ...     (1, 8, 8), classes=10, mean=5, std=6.0, family="resnet", depths=(1, 1, 1),
    ...     widths=tuple(Width(layer=layer, asked=base, channels=base) for layer, base in layers)))
    >>> tuple(network(torch.zeros(2, 1, 8, 8, dtype=torch.uint8)).shape)
    (2, 10)
    """
    family = family_named(architecture.family)
    network = family.build(architecture)
    outputs = architecture.signature.outputs
    if len(outputs) > 1 and isinstance(network, OneInputNetwork):
        network.sizes = architecture.signature.vector_sizes
    with_preparation(network, architecture)
    if architecture.factorization != "none":
        factorise_(network, rank_fraction=architecture.rank_fraction, kind=architecture.factorization)
    return network
