"""Encoders of tokens: by hand, at any padding, in the shipped file, and with fewer heads and layers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from nas_compress.errors import RequestError
from nas_compress.models.factorised import factorise_
from nas_compress.models.families import FAMILIES
from nas_compress.models.macs import count_macs
from nas_compress.models.transformer_layers import Rotation
from nas_compress.pruning.channel_groups import trace_groups
from nas_compress.pruning.cutting import cut_network
from nas_compress.pruning.depth import without_blocks
from nas_compress.quantization.quantize import quantize
from nas_compress.values.family_settings import EncoderSettings
from token_networks import LENGTHS, File, encoder, sentences

WITHIN = 2e-6
FORMS: tuple[dict[str, object], ...] = (
    {},
    {"norm": "pre", "positions": "rotary", "pooling": "max"},
    {"embedding_width": 5, "pooling": "first", "sharing": "all"},
    {"norm": "pre", "embedding_width": 5, "max_tokens": 6},
)
every_form = pytest.mark.parametrize("settings", FORMS, ids=lambda settings: " ".join(map(str, settings.values())))


@every_form
def test_padding_and_the_order_of_a_batch_change_no_answer(settings: dict[str, object], tmp_path: Path) -> None:
    network, samples, longer = encoder(**settings), sentences(), F.pad(sentences(), (0, 9))
    order = torch.tensor([3, 1, 0, 4, 2])
    with torch.no_grad():
        wanted = network(samples).numpy()
        np.testing.assert_allclose(network(longer).numpy(), wanted, rtol=0, atol=WITHIN)
    assert wanted.std() > 0.1
    file = File(network, tmp_path / "model.onnx")
    np.testing.assert_allclose(file(samples), wanted, rtol=0, atol=WITHIN)
    np.testing.assert_allclose(file(longer), wanted, rtol=0, atol=WITHIN)
    np.testing.assert_allclose(file(samples[order]), wanted[order], rtol=0, atol=WITHIN)
    alone = [file(samples[row : row + 1, :length]) for row, length in enumerate(LENGTHS)]
    np.testing.assert_allclose(np.concatenate(alone), wanted, rtol=0, atol=WITHIN)


def test_tokens_behind_the_longest_sequence_are_left_out() -> None:
    network, samples = encoder(max_tokens=6), sentences()
    with torch.no_grad():
        assert torch.equal(network(samples), network(samples[:, :6]))


def test_a_layer_is_what_its_relations_say() -> None:
    """Scores from queries and keys, their softmax over the tokens: the post-norm layer by hand."""
    network = encoder()
    sample = sentences()[2:3]
    with torch.no_grad():
        seen = network.observe(sample, relations=True)
        queries, keys, values = (part[:, :, :4] for part in seen.relations["layer1"])
        mixed = torch.softmax(queries @ keys.mT / 2.0, dim=-1) @ values
        layer, before = network.layers[1], seen.features["layer0"][:, :4]
        middle = layer.attention_norm(before + layer.attention.output(mixed.permute(0, 2, 1, 3).flatten(2)))
        by_hand = layer.mlp_norm(middle + layer.mlp.outer(F.gelu(layer.mlp.inner(middle))))
        torch.testing.assert_close(seen.features["layer1"][:, :4], by_hand)
        read = network.head.linear(network.head.norm(by_hand.mean(dim=1)))
        torch.testing.assert_close(seen.outputs["logits"], read)
    assert list(seen.features) == ["embedding", "layer0", "layer1"]
    assert not network.observe(sample).relations


def test_rotary_scores_depend_on_distances_only() -> None:
    rotation = Rotation(5, longest=20)
    torch.manual_seed(0)
    query, key = torch.randn(5), torch.randn(5)
    queries, keys = rotation(query.expand(1, 1, 20, 5), key.expand(1, 1, 20, 5))
    scores = queries[0, 0] @ keys[0, 0].T
    for distance in range(-19, 20):
        diagonal = scores.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), rtol=0, atol=1e-5)
    torch.testing.assert_close(scores[0, 0], query @ key)
    assert scores[0].std() > 0.1
    pair = torch.tensor([query[0].item(), query[2].item()])  # channel 0 turns with channel 2, by one radian per token
    turn = torch.tensor([[np.cos(3.0), -np.sin(3.0)], [np.sin(3.0), np.cos(3.0)]], dtype=torch.float32)
    torch.testing.assert_close(queries[0, 0, 3, [0, 2]], turn @ pair)


def test_the_file_of_rotary_positions_stores_no_table(tmp_path: Path) -> None:
    sizes = {}
    for longest in (16, 512):
        File(encoder(positions="rotary", max_tokens=longest), tmp_path / "model.onnx")
        sizes[longest] = (tmp_path / "model.onnx").stat().st_size
    assert sizes[512] - sizes[16] < 2 * 2 * 512, "two bytes per position and layer"


@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_heads_layers_and_channels_are_cut(positions: str, tmp_path: Path) -> None:
    network, samples = encoder(positions=positions), sentences()
    groups = {group.layers[0]: group for group in trace_groups(network, {"input": samples[:2]})[1]}
    assert [len(group.units) for group in groups.values()] == [3, 12, 24, 3, 24]
    assert groups["layers.0.attention.query"].attention == "layers.0.attention"
    free = [layer for layer, _ in FAMILIES["encoder"].layers((2,), (12,), EncoderSettings(heads=3))]
    assert all(sum(layer in group.layers for group in groups.values()) == 1 for layer in free)

    with torch.no_grad():  # a head and two channels without effect
        network.layers[0].attention.output.weight[:, :4] = 0
        network.layers[1].mlp.outer.weight[:, [5, 7]] = 0
    kept = {
        "layers.0.attention.query": [1, 2],
        "layers.1.mlp.inner": [place for place in range(24) if place not in (5, 7)],
    }
    cut = cut_network(network, {"input": samples[:2]}, lambda group: kept.get(group.layers[0]))
    assert cut.get_submodule("layers.0.attention").heads == 2
    with torch.no_grad():
        wanted = network(samples)
        torch.testing.assert_close(cut(samples), wanted, rtol=0, atol=WITHIN)
    np.testing.assert_allclose(File(cut, tmp_path / "model.onnx")(samples), wanted.numpy(), rtol=0, atol=WITHIN)
    shorter = without_blocks(network, FAMILIES["encoder"], ((1,),))
    assert list(shorter.eval().observe(samples).features) == ["embedding", "layer0"]


@pytest.mark.parametrize("bits", [8, 4, 2])
def test_weights_of_few_bits_take_few_bytes(bits: int, tmp_path: Path) -> None:
    network = encoder(width=48)
    small = quantize(network, weight_bits=bits, activation_bits=32, calibration=None)
    file = File(small, tmp_path / "model.onnx")
    with torch.no_grad():
        np.testing.assert_allclose(file(sentences()), small(sentences()).numpy(), rtol=0, atol=WITHIN)
    inside = sum(
        value.numel() for name, value in network.named_parameters() if ".attention." in name or ".mlp." in name
    )
    outside = sum(value.numel() for value in network.parameters()) - inside
    assert (tmp_path / "model.onnx").stat().st_size < inside * bits / 8 + outside + 12_000


def test_factorised_layers_answer_in_the_file(tmp_path: Path) -> None:
    network = encoder(width=48)
    factorise_(network, rank_fraction=0.25, kind="low_rank")
    with torch.no_grad():
        wanted = network(sentences()).numpy()
    np.testing.assert_allclose(File(network, tmp_path / "model.onnx")(sentences()), wanted, rtol=0, atol=WITHIN)


def test_multiply_adds_by_hand() -> None:
    network = encoder(embedding_width=5)
    tokens, width, inner = 11, 12, 24
    layer = tokens * (4 * (width + 1) * width + (width + 1) * inner + (inner + 1) * width) + 2 * tokens**2 * width
    wanted = tokens * 6 * width + 2 * layer + 13 * 3
    assert count_macs(network, {"input": sentences()[:1]}) == wanted


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"norm": "mid"}, "norm must be a known name, but got 'mid'"),
        ({"positions": "sines"}, "positions must be a known name, but got 'sines'"),
        ({"pooling": "class_token"}, "pooling must be a known name, but got 'class_token'"),
        ({"embedding_width": 0}, "embedding_width must be a whole number of at least 1, but got embedding_width=0"),
        ({"mlp_ratio": -1}, "0 < mlp_ratio < inf must hold, but got mlp_ratio=-1"),
        ({"heads": 5}, "heads must divide the channels of each attention, but got heads=5 for 12"),
    ],
)
def test_impossible_settings_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(RequestError) as caught:
        encoder(**values)
    assert message in str(caught.value)
