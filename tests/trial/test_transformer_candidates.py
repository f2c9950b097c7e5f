"""Shape of a transformer candidate: settings, widths and the teacher's importances."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from nas_compress.config.teacher_section import TeacherSection
from nas_compress.data.dataset import Dataset
from nas_compress.devices.onnxruntime_cpu.device import OnnxruntimeCpu
from nas_compress.errors import RequestError
from nas_compress.models.families import FAMILIES, build_student
from nas_compress.pruning.channel_groups import ChannelGroup
from nas_compress.pruning.importance_criteria import CRITERIA, LossSamples, rank_channels
from nas_compress.pruning.teacher_shape import TeacherShape
from nas_compress.teacher.obtain import teacher_architecture
from nas_compress.trial.shape import channel_step, shaped
from nas_compress.trial.validity import check_candidate
from nas_compress.values.architecture import Architecture
from nas_compress.values.candidate import Candidate, cross_entropy, distillation
from nas_compress.values.family_settings import TransformerSettings

VIT = Candidate(family="vit", depths=(2,))
KD = distillation(hard_weight=0.5, soft_weight=0.5, temperature=2.0)


def shape(
    candidate: Candidate,
    dataset: Dataset,
    groups: tuple[ChannelGroup, ...] = (),
    teacher: str | None = None,
    widths: tuple[int, ...] = (),
    depths: tuple[int, ...] = (),
) -> Architecture:
    return shaped(
        candidate,
        dataset,
        step=channel_step(candidate, OnnxruntimeCpu()),
        groups=groups,
        teacher=TeacherShape(family=teacher, widths=widths, depths=depths),
    )


def votes(section: TeacherSection, dataset: Dataset, criterion: str) -> tuple[ChannelGroup, ...]:
    torch.manual_seed(0)
    network = build_student(teacher_architecture(section, dataset, "s"))
    few = dataset.train.first(16)
    samples = LossSamples(task=dataset.task, batches=[(few.inputs, few.targets)])
    return rank_channels(network, dataset.example, criterion=criterion, seed=0, samples=samples)


def channels(found: Architecture) -> dict[str, int]:
    return {width.layer: width.channels for width in found.widths}


def test_what_a_candidate_leaves_open_is_written_down(few_digits: Dataset) -> None:
    found = shape(VIT, few_digits)
    assert found.settings == TransformerSettings(heads=4, patch_size=2, pooling="mean")
    assert Architecture.from_dict(found.to_dict()) == found
    asked = replace(VIT, heads=2, patch_size=4, pooling="class_token", distillation_token=True, losses=KD)
    found = shape(asked, few_digits)
    assert found.settings == asked.shape.settings


def test_widths_follow_multiplier_ratio_and_heads(few_digits: Dataset) -> None:
    found = channels(shape(replace(VIT, width_multiplier=0.75, mlp_ratio=3.0, heads=3), few_digits))
    assert found["embedding.conv"] == 48 and found["layers.1.mlp.inner"] == 144
    assert found["layers.1.attention.query"] == 48  # a multiple of 16 channels and of 3 heads
    for heads, step, expected in ((3, 8, 72), (5, 16, 80), (4, 16, 64)):
        bits = {"weight_bits": 8, "activation_bits": 8} if step == 8 else {}
        assert channels(shape(replace(VIT, heads=heads, **bits), few_digits))["layers.0.attention.query"] == expected


def test_a_convolutional_teacher_votes_by_relative_depth(few_digits: Dataset) -> None:
    groups = votes(TeacherSection(), few_digits, "l1")
    cut = replace(VIT, pruning_ratio=0.5, pruning_criterion="l1")
    found = shape(cut, few_digits, groups, "resnet", (32, 64, 128))
    whole = shape(VIT, few_digits)
    assert [width.layer for width in found.widths] == [width.layer for width in whole.widths]
    assert all(a.asked <= b.asked for a, b in zip(found.widths, whole.widths, strict=True))
    build_student(found)(torch.zeros(1, 1, 8, 8, dtype=torch.uint8))


@pytest.mark.parametrize("pooling", ["mean", "class_token"])
@pytest.mark.parametrize("criterion", sorted(set(CRITERIA) - {"bn_scale"}))
def test_a_transformer_teacher_votes_itself(few_digits: Dataset, criterion: str, pooling: str) -> None:
    section = TeacherSection(family="vit", depths=(2,), widths=(48,), heads=3, pooling=pooling)
    groups = votes(section, few_digits, criterion)
    free = [layer for layer, _ in FAMILIES["vit"].layers((2,), (48,))]
    assert [sorted(set(group.layers) & set(free)) for group in groups] == [[layer] for layer in free]
    assert [group.channels for group in groups] == [48, 48, 96, 48, 96]
    assert [len(group.importance) for group in groups] == [48, 3, 96, 3, 96]  # an attention goes head by head
    assert all(group.importance.std() > 0 for group in groups)
    assert [group.position for group in groups] == [0, 0.25, 0.5, 0.75, 1]
    assert groups[0].layers[1:] == tuple(
        f"layers.{layer}.{part}" for layer in range(2) for part in ("attention.output", "mlp.outer")
    )
    assert groups[1].layers == tuple(f"layers.0.attention.{part}" for part in ("query", "key", "value"))


def test_l1_finds_what_is_near_zero_in_a_transformer(few_digits: Dataset) -> None:
    torch.manual_seed(0)
    network = build_student(teacher_architecture(TeacherSection(family="vit", depths=(1,)), few_digits, "s"))
    layer = network.get_submodule("layers.0")
    with torch.no_grad():
        for part in (layer.attention.query, layer.attention.key, layer.attention.value):
            part.weight[16:32] *= 1e-3  # the second of four heads
        layer.attention.output.weight[:, 16:32] *= 1e-3
        layer.mlp.inner.weight[[7, 9]] *= 1e-3
        layer.mlp.outer.weight[:, [7, 9]] *= 1e-3
    groups = rank_channels(network, few_digits.example, criterion="l1", seed=0)
    assert groups[1].importance.argmin() == 1
    assert set(groups[2].importance.argsort()[:2]) == {7, 9}


def test_a_transformer_has_no_scales_of_batch_normalisation(few_digits: Dataset) -> None:
    with pytest.raises(RequestError, match=r"'bn_scale' needs batch normalisation, but the group of .* has none"):
        votes(TeacherSection(family="vit"), few_digits, "bn_scale")


def test_a_transformers_vote_shapes_either_family(few_digits: Dataset) -> None:
    groups = votes(TeacherSection(family="vit"), few_digits, "l1")
    cut = {"pruning_ratio": 0.5, "pruning_criterion": "l1"}
    own = shape(replace(VIT, **cut), few_digits, groups, "vit", (64,))
    other = shape(Candidate(family="resnet", depths=(1, 1, 1), **cut), few_digits, groups, "vit", (64,))
    for found in (own, other):
        build_student(found)(torch.zeros(1, 1, 8, 8, dtype=torch.uint8))
        assert sum(width.asked for width in found.widths) > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads": 2}, "heads is a setting of vit and encoder, but got heads=2 for family 'resnet'"),
        ({"mlp_ratio": 2.0}, "mlp_ratio is a setting of vit and encoder, but got mlp_ratio=2.0 for family 'resnet'"),
        ({"patch_size": 2}, "patch_size is a setting of vit"),
        ({"pooling": "mean"}, "pooling is a setting of vit"),
        ({"distillation_token": True}, "distillation_token is a setting of vit"),
        (
            {"sharing": "all"},
            "sharing is a setting of vit",
        ),
        (
            {"family": "vit", "stem_stride": 2},
            "stem_stride is a setting of resnet, mobilenet, conv1d and unet, but got",
        ),
        (
            {"family": "vit", "distillation_token": True, "losses": cross_entropy()},
            "distillation_token needs a loss that reads the teacher's answers, but got cross_entropy",
        ),
    ],
)
def test_settings_of_another_family_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        check_candidate(replace(Candidate(family="resnet", depths=(1, 1, 1), losses=KD), **change))
    assert "\n" not in str(caught.value)


def test_weights_cut_out_of_heads_are_refused(few_digits: Dataset) -> None:
    inherits = replace(VIT, init="inherit", pruning_ratio=0.5, pruning_criterion="l1")
    vote = votes(TeacherSection(family="vit", depths=(2,)), few_digits, "l1")
    with pytest.raises(RequestError, match=r"needs the teacher's 64 channels in attention .* whole heads"):
        shape(inherits, few_digits, vote, "vit", (64,), (2,))
    with pytest.raises(RequestError, match=r"needs pruning_ratio=0 in family vit, .* but got 0.5; head_ratio removes"):
        shape(replace(inherits, head_ratio=0.5), few_digits, vote, "vit", (64,), (2,))


def test_what_does_not_fit_the_data_is_refused(few_digits: Dataset) -> None:
    with pytest.raises(RequestError, match=r"patch_size must divide .* got patch_size=3 for 8x8"):
        shape(replace(VIT, patch_size=3), few_digits)
    with pytest.raises(RequestError, match=r"one entry per stage of vit \(1\), but got depths=\(1, 1, 1\)"):
        shape(replace(VIT, depths=(1, 1, 1)), few_digits)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (
            {"family": "vit", "heads": 3},
            "s: teacher: heads must divide the channels of each attention",
        ),
        ({"family": "vit", "patch_size": 5}, "s: teacher: patch_size must divide height and width"),
        ({"family": "vit", "depths": (1, 1, 1)}, r"s: teacher.depths must have one entry per stage of vit \(1\)"),
        ({"family": "vit", "depths": (1, 1), "widths": (8, 8)}, "s: teacher: a vit must have one depth and one width"),
    ],
)
def test_a_teacher_that_does_not_fit_is_refused(few_digits: Dataset, section: dict[str, object], message: str) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        teacher_architecture(TeacherSection(**section), few_digits, "s")
    assert "\n" not in str(caught.value)


def test_a_teacher_without_depths_has_its_familys_own(few_digits: Dataset) -> None:
    assert teacher_architecture(TeacherSection(), few_digits).depths == (1, 1, 1)
    found = teacher_architecture(TeacherSection(family="vit", mlp_ratio=3.0), few_digits)
    assert found.depths == FAMILIES["vit"].base_depths and found.channels("layers.3.mlp.inner") == 192
