"""A family with settings of its own: its class, its row of settings and its row in the table are all that it needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn

from nas_compress.config.teacher_section import TeacherSection
from nas_compress.errors import RequestError
from nas_compress.models.families import FAMILIES, build_student
from nas_compress.models.family import Family, FreeLayers
from nas_compress.models.features import Observation, OneInputNetwork
from nas_compress.models.input_output_scaling import raw_input
from nas_compress.models.layers import Head
from nas_compress.trial.validity import check_candidate
from nas_compress.values.architecture import Architecture, Width
from nas_compress.values.candidate import Candidate
from nas_compress.values.family_settings import SETTINGS, FamilySettings

PLAIN = Candidate(family="resnet", depths=(1, 1, 1))


@dataclass(frozen=True, kw_only=True)
class PlainSettings(FamilySettings):
    """kernel: side of every convolution."""

    kernel: int = 3


class PlainNetwork(OneInputNetwork):
    """A chain of convolutions."""

    def __init__(self, architecture: Architecture, kernel: int) -> None:
        super().__init__()
        inputs, _, _ = architecture.signature.image_shape
        channels = [width.channels for width in architecture.widths]
        self.raw_input = raw_input(architecture)
        self.chain = nn.Sequential(
            *(nn.Conv2d(a, b, kernel, padding="same") for a, b in zip([inputs, *channels], channels, strict=False))
        )
        self.head = Head(channels[-1], architecture.signature.classes)

    def observe(self, samples: torch.Tensor, *, relations: bool = False) -> Observation:
        values = self.chain(self.raw_input(samples))
        return Observation(outputs={"logits": self.head(values)}, features={"chain": values})


class PlainFamily(Family[PlainSettings]):
    """Chains."""

    summary, source = "a chain of convolutions", "none"
    base_widths, base_depths = (16,), (2,)
    settings = PlainSettings

    def _layers(self, depths: tuple[int, ...], base_widths: tuple[int, ...], settings: PlainSettings) -> FreeLayers:
        return [(f"chain.{number}", base_widths[0]) for number in range(depths[0])]

    def build(self, architecture: Architecture) -> PlainNetwork:
        return PlainNetwork(architecture, self.own(architecture.settings).kernel)

    def blocks(self, network: nn.Module) -> Sequence[nn.Sequential]:
        return [network.get_submodule("chain")]

    def is_removable(self, block: nn.Module) -> bool:
        return False


@pytest.fixture(autouse=True)
def _added(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FAMILIES, "plain", PlainFamily())
    monkeypatch.setitem(SETTINGS, "plain", PlainSettings)


def test_candidates_carry_its_settings_and_others_stay_as_they_were() -> None:
    before = PLAIN.fingerprint
    candidate = Candidate(family="plain", depths=(2,), settings=PlainSettings(kernel=5))
    check_candidate(candidate)
    assert candidate.to_dict()["kernel"] == 5 and Candidate.from_dict(candidate.to_dict()) == candidate
    assert candidate.fingerprint != Candidate(family="plain", depths=(2,)).fingerprint
    assert PLAIN.fingerprint == before and "kernel" not in PLAIN.to_dict()
    with pytest.raises(RequestError, match="kernel is a setting of plain, but got kernel=5 for family 'resnet'"):
        Candidate.from_dict(PLAIN.to_dict() | {"kernel": 5})


def test_a_study_file_may_give_its_settings_to_a_teacher() -> None:
    section = TeacherSection(family="plain", kernel=5)
    assert section.settings == PlainSettings(kernel=5) and section.model_dump()["kernel"] == 5
    assert "kernel" in TeacherSection.key_names() and "kernel" not in TeacherSection().model_dump()


def test_an_architecture_builds_it_also_after_json() -> None:
    widths = tuple(Width(layer=layer, asked=16, channels=8) for layer, _ in FAMILIES["plain"].layers((2,), (16,)))
    shape = Architecture.of_images(
        (1, 8, 8), classes=3, mean=0, std=1.0, family="plain", depths=(2,), widths=widths,
        settings=PlainSettings(kernel=5),
    )  # fmt: skip
    assert Architecture.from_dict(shape.to_dict()) == shape
    network = build_student(shape)
    assert network.get_submodule("chain.1").kernel_size == (5, 5)
    assert network(torch.zeros(2, 1, 8, 8, dtype=torch.uint8)).shape == (2, 3)
    with pytest.raises(RequestError, match="settings must be PlainSettings, but got ConvolutionalSettings"):
        build_student(replace(shape, settings=PLAIN.shape.settings))
