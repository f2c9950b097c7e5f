"""The table of families, and one function that builds any of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from nas_compress.architecture import Architecture
from nas_compress.errors import RequestError, require_known
from nas_compress.models import mobilenet, resnet
from nas_compress.models.observation import ObservableNetwork


@dataclass(frozen=True, kw_only=True)
class Family:
    """A kind of network: its free widths for given depths, and how to build it from an architecture."""

    summary: str
    source: str
    base_widths: tuple[int, ...]
    layers: Callable[[tuple[int, ...], tuple[int, ...]], list[tuple[str, int]]]
    build: Callable[[Architecture], ObservableNetwork]


FAMILIES: Mapping[str, Family] = {
    "resnet": Family(
        summary="CIFAR-style basic blocks",
        source="He et al. 2016, arXiv 1512.03385",
        base_widths=(32, 64, 128),
        layers=resnet.layers,
        build=resnet.build,
    ),
    "mobilenet": Family(
        summary="inverted residuals, depthwise separable convolutions",
        source="Sandler et al. 2018, arXiv 1801.04381",
        base_widths=(16, 32, 64),
        layers=mobilenet.layers,
        build=mobilenet.build,
    ),
}


def family_named(name: str, where: str = "") -> Family:
    """The family of that name; RequestError names the nearest one."""
    require_known("a family", name, FAMILIES, where)
    return FAMILIES[name]


def build_student(architecture: Architecture) -> ObservableNetwork:
    """A network of that architecture with fresh weights from torch's global random state."""
    family = family_named(architecture.family)
    if min(architecture.input_shape) < 1 or architecture.classes < 2:
        raise RequestError(
            "an input shape of at least 1 each and at least 2 classes must hold, "
            f"but got {architecture.input_shape} and {architecture.classes}"
        )
    return family.build(architecture)
