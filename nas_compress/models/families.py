"""The table of families, and one function that builds any of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from nas_compress.errors import RequestError, refusal, require_known
from nas_compress.models import mobilenet, resnet, vit
from nas_compress.models.factorised import factorise_
from nas_compress.models.features import ObservableNetwork
from nas_compress.values.architecture import Architecture

Layers = Callable[[tuple[int, ...], tuple[int, ...], "float | None"], list[tuple[str, int]]]
"""(depths, base widths, MLP ratio or None) to free widths as (layer path, base channels)."""

TRANSFORMER_SETTINGS = ("heads", "mlp_ratio", "patch_size", "pooling", "distillation_token", "head_ratio", "sharing")


@dataclass(frozen=True, kw_only=True)
class Family:
    """A kind of network: its free widths for given depths, and how to build it from an architecture.

    `base_widths` and `base_depths` have one entry per stage. `settings` are the candidate's fields that this family
    takes and others may not. `complete` fills in what an architecture leaves open and checks that it fits together;
    `multiples` tells of which number a free layer's width must be a multiple, where there is one, and `repeats` whether
    a free layer is an earlier one again under a given sharing of weights.
    """

    summary: str
    source: str
    base_widths: tuple[int, ...]
    base_depths: tuple[int, ...]
    settings: tuple[str, ...]
    free_layers: Layers
    build: Callable[[Architecture], ObservableNetwork]
    complete: Callable[[Architecture], Architecture] = lambda architecture: architecture
    multiples: Callable[[Sequence[str], int | None], Mapping[str, int]] = lambda layers, heads: {}
    repeats: Callable[[str, str], bool] = lambda layer, sharing: False

    def layers(
        self, depths: tuple[int, ...], base_widths: tuple[int, ...], *, mlp_ratio: float | None = None
    ) -> list[tuple[str, int]]:
        """Free widths as (layer path, base channels), in forward order."""
        return self.free_layers(depths, base_widths, mlp_ratio)


FAMILIES: Mapping[str, Family] = {
    "resnet": Family(
        summary="CIFAR-style basic blocks",
        source="He et al. 2016, arXiv 1512.03385",
        base_widths=(32, 64, 128),
        base_depths=(1, 1, 1),
        settings=("stem_stride",),
        free_layers=lambda depths, base_widths, _: resnet.layers(depths, base_widths),
        build=resnet.build,
    ),
    "mobilenet": Family(
        summary="inverted residuals, depthwise separable convolutions",
        source="Sandler et al. 2018, arXiv 1801.04381",
        base_widths=(16, 32, 64),
        base_depths=(1, 1, 1),
        settings=("stem_stride",),
        free_layers=lambda depths, base_widths, _: mobilenet.layers(depths, base_widths),
        build=mobilenet.build,
    ),
    "vit": Family(
        summary="vision transformer: patches, pre-norm encoder layers, optional distillation token",
        source="Dosovitskiy et al. 2021, arXiv 2010.11929; Touvron et al. 2021, arXiv 2012.12877",
        base_widths=(64,),
        base_depths=(4,),
        settings=TRANSFORMER_SETTINGS,
        free_layers=vit.layers,
        build=vit.build,
        complete=vit.complete,
        multiples=vit.multiples,
        repeats=vit.repeats,
    ),
}


def family_named(name: str, where: str = "") -> Family:
    """The family of that name; RequestError names the nearest one."""
    require_known("a family", name, FAMILIES, where)
    return FAMILIES[name]


def require_settings(family: str, given: Mapping[str, object], where: str = "") -> None:
    """Raise RequestError for the first of the `given` settings, by name, that the family does not take."""
    for name, value in given.items():
        if name not in FAMILIES[family].settings:
            owners = " and ".join(owner for owner, known in FAMILIES.items() if name in known.settings)
            raise refusal(f"{name} is a setting of {owners}, but got {name}={value!r} for family {family!r}", where)


def build_student(architecture: Architecture) -> ObservableNetwork:
    """A network of that architecture with fresh weights from torch's global random state.

    >>> import torch
    >>> from nas_compress.values.architecture import Width
    >>> layers = FAMILIES["resnet"].layers((1, 1, 1), (8, 16, 16))
    >>> network = build_student(Architecture(
    ...     family="resnet", input_shape=(1, 8, 8), classes=10, depths=(1, 1, 1), mean=5, std=6.0,
    ...     widths=tuple(Width(layer=layer, asked=base, channels=base) for layer, base in layers)))
    >>> tuple(network(torch.zeros(2, 1, 8, 8, dtype=torch.uint8)).shape)
    (2, 10)
    """
    family = family_named(architecture.family)
    if min(architecture.input_shape) < 1 or architecture.classes < 2:
        raise RequestError(
            "an input shape of at least 1 each and at least 2 classes must hold, "
            f"but got {architecture.input_shape} and {architecture.classes}"
        )
    network = family.build(architecture)
    if architecture.factorization != "none":
        factorise_(network, rank_fraction=architecture.rank_fraction, kind=architecture.factorization)
    return network
