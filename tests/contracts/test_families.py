"""What every family promises, whatever its input and depth."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable

import pytest
import torch
from torch import nn

from nas_compress.errors import RequestError
from nas_compress.models.families import FAMILIES, build_student, family_named, require_fitting
from nas_compress.models.layers import StagedFamily
from nas_compress.values.architecture import Architecture, Width
from nas_compress.values.family_settings import (
    SETTINGS,
    STEM_STRIDES,
    ConvolutionalSettings,
    FamilySettings,
    family_settings,
)
from nas_compress.values.normalisation import Normalisation
from nas_compress.values.signature import Signature, TensorSpec, token_input

SHAPES = ((1, 8, 8), (1, 28, 28), (3, 32, 32), (2, 7, 5))
IMAGES = tuple(TensorSpec(name="input", dtype="uint8", shape=("N", *shape)) for shape in SHAPES)
OTHERS = (
    TensorSpec(name="input", dtype="float32", shape=("N", 3, 9, 9)),
    TensorSpec(name="input", dtype="float32", shape=("N", 6, 30)),
    TensorSpec(name="input", dtype="int16", shape=("N", 1, 17)),
    TensorSpec(name="input", dtype="float32", shape=("N", 16)),
    token_input(200),
)
CONVOLUTIONAL = tuple(name for name, family in FAMILIES.items() if isinstance(family, StagedFamily))
CLASSES = 4
HEADS = 3
NORMALISATION = Normalisation(mean=100, std=50.0)


def few_layers(family: str) -> tuple[int, ...]:
    return tuple(1 for _ in FAMILIES[family].base_depths)


def classifier(spec: TensorSpec) -> Signature:
    logits = TensorSpec(name="logits", dtype="float32", shape=("N", CLASSES))
    return Signature(inputs=(spec,), outputs=(logits,))


def task_of(family: str, spec: TensorSpec) -> Signature:
    """Logits of each pixel if the family builds networks with them, else of each sample."""
    if len(spec.shape) == 4:
        logits = TensorSpec(name="logits", dtype="float32", shape=("N", CLASSES, *spec.shape[2:]))
        dense = Signature(inputs=(spec,), outputs=(logits,))
        if FAMILIES[family].fits(dense):
            return dense
    return classifier(spec)


def loss(logits: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of three samples of three classes, or of all their pixels."""
    rows = (logits if logits.ndim > 2 else logits[..., None]).flatten(2).movedim(1, -1)
    return nn.functional.cross_entropy(rows.flatten(0, 1), LABELS.repeat_interleave(rows.shape[1]))


LABELS = torch.tensor([0, 1, 2])


def fits(family: str, spec: TensorSpec) -> bool:
    return FAMILIES[family].fits(task_of(family, spec))


def first_spec(family: str) -> TensorSpec:
    """An input that the family takes."""
    return next(spec for spec in (*IMAGES, *OTHERS) if fits(family, spec))


def more_layers(family: str) -> tuple[int, ...]:
    return (2, 1, 3)[: len(FAMILIES[family].base_depths)]


every_network = pytest.mark.parametrize(
    ("family", "spec", "depths"),
    [
        (family, spec, depths(family))
        for family in FAMILIES
        for spec in (*IMAGES, *OTHERS)
        for depths in (few_layers, more_layers)
        if fits(family, spec)
    ],
)


class Recording(Architecture):
    """An architecture that remembers which layers were asked for."""

    def channels(self, layer: str) -> int:
        ASKED.append(layer)
        return super().channels(layer)


ASKED: list[str] = []
WIDTHS = {nn.Conv2d: "out_channels", nn.Embedding: "embedding_dim"}


def free_layers(family: str, depths: tuple[int, ...]) -> list[str]:
    return [layer for layer, _ in FAMILIES[family].layers(depths, FAMILIES[family].base_widths)]


def settings_of(family: str) -> FamilySettings:
    return family_settings(family, {"heads": HEADS} if FAMILIES[family].has_attention else {})


def architecture(family: str, spec: TensorSpec, depths: tuple[int, ...]) -> Architecture:
    """Every width differs from every other, and none is a round number."""
    layers = free_layers(family, depths)
    multiples = FAMILIES[family].multiples(layers, settings_of(family))
    widths = tuple(
        Width(layer=layer, asked=0.0, channels=multiples.get(layer, 1) * (5 + 2 * number))
        for number, layer in enumerate(layers)
    )
    return Recording(
        family=family,
        signature=task_of(family, spec),
        normalisation={"input": NORMALISATION},
        depths=depths,
        widths=widths,
        settings=settings_of(family),
    )


def samples(spec: TensorSpec, count: int = 3) -> torch.Tensor:
    if spec.values is not None:
        return torch.randint(1, spec.values, (count, 9), dtype=torch.int32)
    drawn = torch.randint(0, 256, (count, *sizes(spec)), dtype=torch.uint8)
    return drawn.to(getattr(torch, spec.dtype))


def sizes(spec: TensorSpec) -> list[int]:
    return [size for size in spec.sample_shape if isinstance(size, int)]


@every_network
def test_the_free_layers_are_exactly_what_build_reads(family: str, spec: TensorSpec, depths: tuple[int, ...]) -> None:
    wanted = architecture(family, spec, depths)
    ASKED.clear()
    network = build_student(wanted)
    assert sorted(set(ASKED)) == sorted(free_layers(family, depths)) == sorted(w.layer for w in wanted.widths)
    for width in wanted.widths:
        module = network.get_submodule(width.layer)
        found = getattr(module, WIDTHS.get(type(module), "out_features"))
        assert found == width.channels, width.layer


@every_network
def test_it_learns_from_raw_samples(family: str, spec: TensorSpec, depths: tuple[int, ...]) -> None:
    network = build_student(architecture(family, spec, depths)).train()
    logits = network(samples(spec))
    assert logits.shape == (3, *task_of(family, spec).outputs[0].sample_shape) and logits.dtype == torch.float32
    loss(logits).backward()
    untouched = [name for name, value in network.named_parameters() if value.grad is None or not value.grad.any()]
    assert not untouched
    assert all(bool(torch.isfinite(value.grad).all()) for value in network.parameters() if value.grad is not None)


@every_network
def test_what_is_seen_is_what_it_answers(family: str, spec: TensorSpec, depths: tuple[int, ...]) -> None:
    network = build_student(architecture(family, spec, depths)).eval()
    inputs = samples(spec)
    seen = network.observe(inputs)
    assert torch.equal(seen.outputs["logits"], network(inputs)) and seen.teacher_head is None
    assert not seen.relations, "nobody asked for them"
    loss(seen.outputs["logits"]).backward()
    for name, feature in seen.features.items():
        assert feature.requires_grad and len(feature) == 3, name


@pytest.mark.parametrize("family", CONVOLUTIONAL)
@pytest.mark.parametrize("spec", IMAGES)
@pytest.mark.parametrize("depths", [(1, 1, 1), (2, 1, 3)])
def test_the_stages_halve_and_the_features_are_named(family: str, spec: TensorSpec, depths: tuple[int, ...]) -> None:
    network = build_student(architecture(family, spec, depths)).eval()
    inputs = samples(spec)
    seen = network.observe(inputs, relations=True)
    features = seen.features
    assert not seen.relations, "there are none"
    assert list(features) == ["stem", *(f"stage{number}" for number in range(len(depths)))]
    _, height, width = sizes(spec)
    for name, feature in features.items():
        if name not in ("stem", "stage0"):
            height, width = math.ceil(height / 2), math.ceil(width / 2)
        assert feature.shape[0] == 3 and feature.shape[2:] == (height, width), name


@pytest.mark.parametrize("family", CONVOLUTIONAL)
@pytest.mark.parametrize("stride", STEM_STRIDES)
def test_the_stem_shrinks_by_its_stride(family: str, stride: int) -> None:
    for spec in IMAGES:
        wanted = dataclasses.replace(
            architecture(family, spec, (1, 1, 1)), settings=ConvolutionalSettings(stem_stride=stride)
        )
        seen = build_student(wanted).eval().observe(samples(spec))
        assert seen.features["stem"].shape[2:] == (*(math.ceil(side / stride) for side in sizes(spec)[1:]),)
        assert seen.outputs["logits"].shape == (3, CLASSES)


@pytest.mark.parametrize("family", FAMILIES)
def test_fresh_weights_follow_the_seed(family: str) -> None:
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        network = build_student(architecture(family, first_spec(family), few_layers(family)))
        return flat(value for value in network.parameters() if value.ndim > 1)

    assert torch.equal(weights(1), weights(1))
    # the row of padding in a table of tokens is 0
    assert bool(((weights(1) != weights(2)) | (weights(1) == 0)).all())
    assert (weights(1) == 0).sum() < 0.02 * len(weights(1))


def flat(values: Iterable[torch.Tensor]) -> torch.Tensor:
    return torch.cat([value.detach().flatten() for value in values])


@pytest.mark.parametrize("family", FAMILIES)
def test_fresh_activations_keep_their_scale(family: str) -> None:
    torch.manual_seed(0)
    spec = IMAGES[2] if fits(family, IMAGES[2]) else first_spec(family)
    network = build_student(architecture(family, spec, more_layers(family))).train()
    logits = network(samples(spec, 16))
    # a mean of small embeddings is small, see EMBEDDING_SCALE
    assert (0.05 if spec.values is None else 0.005) < logits.detach().std().item() < 20


@pytest.mark.parametrize("family", [family for family in FAMILIES if first_spec(family).values is None])
def test_the_input_is_normalised_inside(family: str) -> None:
    spec = first_spec(family)
    network = build_student(architecture(family, spec, few_layers(family)))
    numbers = torch.tensor([100, 150, 50, 0], dtype=getattr(torch, spec.dtype)).repeat(math.prod(sizes(spec)))
    values = network.raw_input(numbers[: math.prod(sizes(spec))].reshape(1, *sizes(spec)))
    wanted = torch.tensor([0.0, 1.0, -1.0, -2.0]).repeat(math.prod(sizes(spec)))
    torch.testing.assert_close(values.flatten(), wanted[: math.prod(sizes(spec))])


def test_every_family_has_its_settings_listed() -> None:
    assert list(FAMILIES) == list(SETTINGS)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_table_says_what_it_is(family: str) -> None:
    known = FAMILIES[family]
    assert known.summary and "arXiv" in known.source
    assert len(known.base_widths) == len(known.base_depths) > 0 < min(known.base_depths)
    assert known.settings is SETTINGS[family]
    assert (known.heads(known.settings()) is not None) == known.has_attention
    assert min(known.base_widths) % 16 == 0, "a full width is one that a float candidate can have"


def test_unknown_names_and_empty_shapes_are_refused() -> None:
    with pytest.raises(RequestError, match=r"a family must be a known name, but got 'resnett' \(here\); .* 'resnet'\?"):
        family_named("resnett", "here")
    good = architecture("resnet", IMAGES[0], (1, 1, 1))
    text = TensorSpec(name="tokens", dtype="int32", shape=("N", "T"))
    with pytest.raises(RequestError, match=r"must have one input \(N, channels, .* but got tokens \('N', 'T'\)"):
        build_student(dataclasses.replace(good, signature=dataclasses.replace(good.signature, inputs=(text,))))


@pytest.mark.parametrize("family", FAMILIES)
def test_it_says_which_tasks_it_builds(family: str) -> None:
    known, spec = FAMILIES[family], first_spec(family)
    logits, total = task_of(family, spec).outputs[0], TensorSpec(name="total", dtype="float32", shape=("N", 1))
    assert known.fits(task_of(family, spec))
    for inputs, outputs in (
        *(((other,), (logits,)) for other in (*IMAGES[:2], *OTHERS)),
        ((spec,), (total,)),
        ((spec,), (logits, total)),
        ((spec,), (dataclasses.replace(logits, name="scores"),)),
        ((TensorSpec(name="tokens", dtype="int64", shape=("N", "length")),), (logits,)),
        ((spec, dataclasses.replace(spec, name="depth")), (logits,)),
    ):
        other = Signature(inputs=inputs, outputs=outputs)
        assert known.fits(other) == builds(family, other), other


def builds(family: str, signature: Signature) -> bool:
    """Whether a network of the family has these inputs and outputs."""
    wanted = architecture(family, first_spec(family), few_layers(family))
    try:
        network = build_student(dataclasses.replace(wanted, signature=signature))
        seen = network.observe(samples(signature.inputs[0])).outputs
    except RequestError:
        return False
    return {name: tuple(value.shape[1:]) for name, value in seen.items()} == {
        spec.name: spec.sample_shape for spec in signature.outputs
    }


def test_a_family_that_does_not_fit_a_task_is_refused_with_those_that_do() -> None:
    images, table = classifier(IMAGES[0]), classifier(OTHERS[3])
    require_fitting("vit", images)
    require_fitting("pruned", table)
    with pytest.raises(RequestError) as caught:
        require_fitting("resnet", table, "study.toml: teacher.family")
    assert str(caught.value) == (
        "a family must build networks of the task's inputs and outputs, input (N, 16) -> logits (N, 4), "
        "but got 'resnet'; fitting families: mlp, pruned (of teacher.factory) (study.toml: teacher.family)"
    )
