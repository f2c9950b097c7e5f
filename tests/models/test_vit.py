"""The vision transformer: patches, tokens, attention by hand, and what it refuses."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch
from torch.nn import functional as F

from image_files import image_macs
from nas_compress.errors import RequestError
from nas_compress.models.families import FAMILIES, build_student
from nas_compress.models.macs import count_parameters
from nas_compress.models.networks.vit import EMBEDDING_STD, VisionTransformer, default_patch_size
from nas_compress.values.architecture import Architecture, Width
from nas_compress.values.family_settings import TransformerSettings

VIT = FAMILIES["vit"]
KINDS = tuple(itertools.product(("mean", "class_token"), (False, True)))
every_kind = pytest.mark.parametrize(("pooling", "distillation_token"), KINDS)


def shape(*, width: int = 12, depth: int = 2, inner: int = 20, attention: int = 6, **changes: object) -> Architecture:
    channels = {"embedding.conv": width}
    for layer in range(depth):
        channels |= {f"layers.{layer}.attention.query": attention, f"layers.{layer}.mlp.inner": inner}
    plain = Architecture.of_images(
        (1, 8, 8),
        family="vit",
        classes=5,
        depths=(depth,),
        widths=tuple(Width(layer=layer, asked=0.0, channels=count) for layer, count in channels.items()),
        mean=5,
        std=6.0,
        settings=TransformerSettings(heads=3),
    )
    return dataclasses.replace(plain, settings=dataclasses.replace(plain.settings, **changes))


def build(seed: int = 0, **changes: object) -> VisionTransformer:
    torch.manual_seed(seed)
    network = build_student(shape(**changes))
    assert isinstance(network, VisionTransformer)
    return network.eval()


def samples(count: int = 4, side: int = 8) -> torch.Tensor:
    return torch.randint(0, 17, (count, 1, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def test_default_patches_divide_both_sides() -> None:
    for height, width in itertools.product(range(1, 40), repeat=2):
        size = default_patch_size(height, width)
        assert height % size == width % size == 0 and size * size <= min(height, width)
    assert [default_patch_size(*sides) for sides in ((8, 8), (28, 28), (7, 5), (8, 12))] == [2, 4, 1, 2]


@every_kind
def test_tokens_stand_in_their_order(pooling: str, distillation_token: bool) -> None:
    network = build(pooling=pooling, distillation_token=distillation_token)
    extra = (pooling == "class_token") + distillation_token
    tokens = network.observe(samples()).features["embedding"]
    assert tokens.shape == (4, extra + 16, 12)
    position = network.embedding.position
    assert torch.equal(tokens[:, :extra], position[:extra].expand(4, -1, -1)), "learned, whatever the image shows"
    by_hand = F.conv2d((samples().float() - 5) / 6, network.embedding.conv.weight, stride=2)
    last_row_second_patch = by_hand[:, :, 3, 1] + position[extra + 13]
    torch.testing.assert_close(tokens[:, extra + 13], last_row_second_patch)


@every_kind
def test_an_observation_names_every_layer(pooling: str, distillation_token: bool) -> None:
    network = build(pooling=pooling, distillation_token=distillation_token)
    seen = network.observe(samples(), relations=True)
    tokens = 16 + (pooling == "class_token") + distillation_token
    assert list(seen.features) == ["embedding", "layer0", "layer1"]
    assert {feature.shape for feature in seen.features.values()} == {(4, tokens, 12)}
    assert list(seen.relations) == ["layer0", "layer1"]
    assert {part.shape for parts in seen.relations.values() for part in parts} == {(4, 3, tokens, 2)}
    assert not network.observe(samples()).relations
    assert (seen.teacher_head is not None) == distillation_token and seen.patches == 16
    assert torch.equal(seen.outputs["logits"], network(samples()))
    if seen.label_head is not None and seen.teacher_head is not None:
        first, second = seen.label_head["logits"], seen.teacher_head["logits"]
        torch.testing.assert_close(seen.outputs["logits"], (first + second) / 2)
        assert not torch.allclose(first, second)


def test_a_layer_is_what_its_relations_say() -> None:
    """Scores from queries and keys, their softmax on the values: the pre-norm layer by hand."""
    network = build()
    seen = network.observe(samples(), relations=True)
    queries, keys, values = seen.relations["layer1"]
    mixed = torch.softmax(queries @ keys.mT / 2**0.5, dim=-1) @ values
    layer = network.layers[1]
    before = seen.features["layer0"]
    middle = before + layer.attention.output(mixed.permute(0, 2, 1, 3).flatten(2))
    by_hand = middle + layer.mlp.outer(F.gelu(layer.mlp.inner(layer.mlp_norm(middle))))
    torch.testing.assert_close(seen.features["layer1"], by_hand)
    torch.testing.assert_close(
        queries, layer.attention.query(layer.attention_norm(before)).view(4, 16, 3, 2).mT.mT.transpose(1, 2)
    )


def test_the_classifier_reads_what_pooling_says() -> None:
    for pooling, token in KINDS:
        network = build(pooling=pooling, distillation_token=token)
        seen = network.observe(samples())
        last = seen.features["layer1"]
        extra = (pooling == "class_token") + token
        read = last[:, 0] if pooling == "class_token" else last[:, extra:].mean(1)
        torch.testing.assert_close(seen.for_labels["logits"], network.head.linear(network.head.norm(read)))
        if token:
            second = network.distillation_head
            torch.testing.assert_close(seen.for_teacher["logits"], second.linear(second.norm(last[:, extra - 1])))


@every_kind
def test_samples_of_a_batch_do_not_meet(pooling: str, distillation_token: bool) -> None:
    network = build(pooling=pooling, distillation_token=distillation_token)
    alone = torch.cat([network(sample) for sample in samples().split(1)])
    torch.testing.assert_close(network(samples()), alone)


@every_kind
def test_every_parameter_is_trained(pooling: str, distillation_token: bool) -> None:
    network = build(pooling=pooling, distillation_token=distillation_token).train()
    F.cross_entropy(network(samples()), torch.tensor([0, 1, 2, 3])).backward()
    assert [name for name, value in network.named_parameters() if value.grad is None or not value.grad.any()] == []
    rows = network.embedding.position.grad.abs().sum(1)
    assert bool((rows > 0).all()), "each token of it"


def test_fresh_positions_are_small_and_cut_off() -> None:
    position = build(width=64, pooling="class_token", distillation_token=True).embedding.position.detach()
    assert position.abs().max() <= 2 * EMBEDDING_STD
    assert position.std().item() == pytest.approx(0.88 * EMBEDDING_STD, rel=0.1)  # what the cut leaves of it
    assert abs(position.mean().item()) < 0.1 * EMBEDDING_STD
    other = build(1, width=64, pooling="class_token", distillation_token=True).embedding.position
    assert bool((position != other).all())


def test_parameters_and_macs_by_hand() -> None:
    network = build()
    tokens, width, attention, inner = 16, 12, 6, 20
    layer = (
        3 * (width + 1) * attention + (attention + 1) * width + (width + 1) * inner + (inner + 1) * width + 4 * width
    )
    assert count_parameters(network) == 5 * width + tokens * width + 2 * layer + 2 * width + 5 * (width + 1)
    # products, their biases, and attention: scores and mixing
    products = 3 * (width + 1) * attention + (attention + 1) * width + (width + 1) * inner + (inner + 1) * width
    assert count_parameters(network) == (5 + tokens) * width + 2 * (products + 4 * width) + 2 * width + 5 * (width + 1)
    # attention multiplies twice more: for its scores, and with its values
    by_hand = tokens * 5 * width + 2 * tokens * (products + 2 * tokens * attention) + 5 * (width + 1)
    assert image_macs(network, (1, 8, 8)) == pytest.approx(by_hand, rel=0.03)


@pytest.mark.parametrize(
    ("sharing", "parts"), [("attention", ["attention"]), ("mlp", ["mlp"]), ("all", ["attention", "mlp"])]
)
def test_layers_that_share_are_the_first_one_again(sharing: str, parts: list[str]) -> None:
    one, deep, shared = build(depth=1), build(depth=3), build(depth=3, sharing=sharing)
    assert [getattr(layer, part) is getattr(shared.layers[0], part) for part in parts for layer in shared.layers] == [
        True
    ] * (3 * len(parts))
    # once for all layers, and as often as there are layers what each has of its own
    own = sum(
        count_parameters(deep.layers[0].get_submodule(name)) for name in (*parts, *(f"{part}_norm" for part in parts))
    )
    assert count_parameters(shared) == count_parameters(deep) - 2 * own
    assert sharing != "all" or count_parameters(shared) == count_parameters(one)
    assert image_macs(shared, (1, 8, 8)) == image_macs(deep, (1, 8, 8)), "smaller, not faster"
    # the same function as layers of their own that are equal, and the gradient is the sum of theirs
    deep.load_state_dict(shared.state_dict())
    torch.testing.assert_close(deep(samples()), shared(samples()))
    for network in (deep, shared):
        network(samples()).square().sum().backward()
    path = f"{parts[0]}.{'query' if parts[0] == 'attention' else 'inner'}.weight"
    gradients = [layer.get_parameter(path).grad for layer in deep.layers]
    torch.testing.assert_close(shared.layers[0].get_parameter(path).grad, sum(gradients))


def test_free_widths_begin_with_the_familys_own() -> None:
    assert VIT.layers((2,), (48,)) == [
        ("embedding.conv", 48),
        ("layers.0.attention.query", 48),
        ("layers.0.mlp.inner", 96),
        ("layers.1.attention.query", 48),
        ("layers.1.mlp.inner", 96),
    ]
    assert VIT.layers((1,), (48,), TransformerSettings(mlp_ratio=3.5))[2] == ("layers.0.mlp.inner", 168)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch_size": 3}, "patch_size must divide height and width of the input, but got patch_size=3 for 8x8"),
        (
            {"heads": 4},
            r"heads must divide the channels of each attention, but got heads=4 for 6 of layers\.0\.attention",
        ),
        ({"pooling": "class"}, "pooling must be a known name, but got 'class'; did you mean 'class_token'?"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        build(**changes)
    assert "\n" not in str(caught.value)


def test_stages_of_another_number_are_refused() -> None:
    with pytest.raises(RequestError, match=r"one depth and one width, but got depths=\(1, 1\), widths=\(64, 64\)"):
        VIT.layers((1, 1), (64, 64))
