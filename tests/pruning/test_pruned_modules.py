"""Family `pruned`: any module, cut, with nothing of the teacher's weights left."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from module_zoo import SHAPE, ZOO, HardCoded, Transformer
from torch import nn
from torch.nn import functional as F

from image_batches import example, labelled
from image_files import export_images
from nas_compress.errors import RequestError
from nas_compress.pruning.importance_criteria import CRITERIA, rank_channels
from nas_compress.pruning.pruned_family import build_pruned, initialise_anew_, pruned_widths
from nas_compress.pruning.ranking import surviving_fractions
from nas_compress.values.architecture import Architecture

SAMPLES = torch.randint(0, 17, (12, *SHAPE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(12) % 10
every_module = pytest.mark.parametrize("kind", ZOO)


def trained(kind: str) -> nn.Module:
    """A few real steps, so that no value is one that an initialisation gives."""
    torch.manual_seed(5)
    network = ZOO[kind]().train()
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(3):
        optimiser.zero_grad()
        F.cross_entropy(network(SAMPLES), LABELS).backward()
        optimiser.step()
    return network.eval()


def shape(network: nn.Module, ratio: float, criterion: str = "l1", ranking: str = "local") -> Architecture:
    groups = rank_channels(network, example(SHAPE), criterion=criterion, seed=0, samples=labelled([(SAMPLES, LABELS)]))
    widths = pruned_widths(groups, surviving_fractions(groups, ratio, ranking=ranking), width_multiplier=1.0, step=4)
    return Architecture.of_images(SHAPE, classes=10, mean=0, std=1.0, family="pruned", depths=(), widths=widths)


@every_module
@pytest.mark.parametrize("ratio", [0.0, 0.5])
def test_nothing_of_a_trained_teacher_survives(kind: str, ratio: float) -> None:
    teacher = trained(kind)
    learned = {name: value for name, value in teacher.state_dict().items() if name not in ("centre",)}
    known = torch.cat([value.flatten().double() for value in learned.values()])
    torch.manual_seed(1)
    student = build_pruned(
        lambda: trained(kind), shape(teacher, ratio), example(SHAPE)
    )  # a factory that brings trained weights
    for name, value in student.state_dict().items():
        assert bool(torch.isfinite(value).all()), name
        if name != "centre" and "num_batches" not in name:
            same = torch.isin(value.flatten().double(), known)  # two floats may agree by chance
            assert same.double().mean() < 0.02, name
    if kind == "grouped":
        assert student.centre == 8
    assert all(value.requires_grad and value.is_leaf for value in student.parameters())


@every_module
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")  # group normalisation looks at its shape
@pytest.mark.parametrize("criterion", [name for name in CRITERIA if name != "bn_scale"])
def test_every_criterion_cuts_what_trains_and_ships(kind: str, criterion: str, tmp_path: Path) -> None:
    teacher, sizes = trained(kind), []
    for ratio in (0.0, 0.5):
        architecture = shape(teacher, ratio, criterion, "isomorphic")
        student = build_pruned(ZOO[kind], architecture, example(SHAPE)).train()
        F.cross_entropy(student(SAMPLES), LABELS).backward()
        assert all(value.grad is not None for value in student.parameters())
        for width in architecture.widths:
            layer = student.get_submodule(width.layer)
            outputs = layer.out_channels if isinstance(layer, nn.Conv2d) else layer.out_features
            assert outputs in (width.channels, 3 * width.channels), width
        export_images(student.eval(), SHAPE, tmp_path / f"{ratio}.onnx")
        sizes.append((tmp_path / f"{ratio}.onnx").stat().st_size)
    assert sizes[1] < 0.9 * sizes[0]


def test_heads_go_as_a_whole_and_their_count_follows() -> None:
    teacher = trained("transformer")
    groups = rank_channels(teacher, example(SHAPE), criterion="l2", seed=0)
    heads = [group for group in groups if group.unit > 1]
    assert [(group.layers, len(group.importance), group.unit) for group in heads] == [
        (("attentions.0.qkv",), 4, 6),
        (("attentions.1.qkv",), 4, 6),
    ]
    student = build_pruned(Transformer, shape(teacher, 0.5), example(SHAPE))
    for attention in student.attentions:
        assert (attention.num_heads, attention.head_dim, attention.attn_dim) == (2, 6, 12)
        assert (attention.qkv.out_features, attention.proj.in_features) == (36, 12)
    assert student.positions.shape == (1, 17, 12) and student.norms[0].normalized_shape == (12,)


@every_module
def test_without_a_cut_the_shapes_are_the_modules_own(kind: str) -> None:
    student = build_pruned(ZOO[kind], shape(trained(kind), 0.0), example(SHAPE))
    own = {name: value.shape for name, value in ZOO[kind]().state_dict().items()}
    assert {name: value.shape for name, value in student.state_dict().items()} == own


@every_module
def test_a_student_is_rebuilt_from_its_recipe(kind: str) -> None:
    architecture = shape(trained(kind), 0.5)
    student = build_pruned(ZOO[kind], architecture, example(SHAPE)).eval()
    recipe = Architecture.from_dict(json.loads(json.dumps(architecture.to_dict())))
    assert recipe == architecture
    again = build_pruned(ZOO[kind], recipe, example(SHAPE)).eval()
    assert not torch.equal(again(SAMPLES), student(SAMPLES))
    again.load_state_dict(student.state_dict())
    torch.testing.assert_close(again(SAMPLES), student(SAMPLES))


def test_fresh_weights_follow_the_seed_alone() -> None:
    architecture = shape(trained("transformer"), 0.5)

    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return torch.cat(
            [value.flatten() for value in build_pruned(Transformer, architecture, example(SHAPE)).parameters()]
        )

    assert torch.equal(weights(1), weights(1)) and not torch.equal(weights(1), weights(2))


def test_parameters_of_no_layer_start_by_their_kind() -> None:
    network = Transformer()
    network.scale, network.own_bias = nn.Parameter(torch.rand(3)), nn.Parameter(torch.rand(3))
    initialise_anew_(network)
    assert network.positions.std().item() == pytest.approx(0.02, rel=0.25) and network.token.abs().max() <= 0.04
    assert network.scale.tolist() == [1, 1, 1] and network.own_bias.tolist() == [0, 0, 0]
    bound = network.classifier.in_features**-0.5
    assert 0.8 * bound < network.classifier.weight.abs().max() <= bound


def test_a_layer_that_cannot_be_cut_is_named() -> None:
    architecture = shape(HardCoded(), 0.5)
    with pytest.raises(RequestError, match="must be one that torch-pruning can cut, but second is not: ") as caught:
        build_pruned(HardCoded, architecture, example(SHAPE))
    assert "\n" not in str(caught.value)
    assert build_pruned(HardCoded, shape(HardCoded(), 0.0), example(SHAPE)) is not None


def test_it_can_only_cut() -> None:
    groups = rank_channels(HardCoded(), example(SHAPE), criterion="uniform", seed=0)
    with pytest.raises(RequestError, match=r"width_multiplier <= 1 must hold, but got 1.5"):
        pruned_widths(groups, (1.0, 1.0), width_multiplier=1.5, step=16)
    small = pruned_widths(groups, (1.0, 0.5), width_multiplier=1.0, step=16)
    assert [width.channels for width in small] == [8, 12], "a layer that is smaller than the step stays whole"
