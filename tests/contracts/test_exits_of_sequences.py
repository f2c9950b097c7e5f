"""Early exits of encoders of tokens and of convolutions over time: one file for samples of any length."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from math import inf
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nas_compress.devices.onnx_session import file_signature, open_session
from nas_compress.errors import RequestError
from nas_compress.export.onnx_file import export_onnx
from nas_compress.measurement.predictions import predict
from nas_compress.models.exits.network import EarlyExits, ExitHead, exit_signature
from nas_compress.models.exits.passes import exit_answers, exits_taken
from nas_compress.models.families import FAMILIES, build_student
from nas_compress.quantization.layer_bits import weight_layers
from nas_compress.quantization.quantize import quantize
from nas_compress.runs.bundle_text.example import example_code
from nas_compress.values.architecture import Architecture, Width
from nas_compress.values.candidate import Exits
from nas_compress.values.signature import Signature, TensorSpec
from nas_compress.values.text import word_pieces
from nas_compress.values.text.word_pieces import WordPieces
from token_networks import LENGTHS, TEXT, encoder, sentences

EXACT = 1e-4


def halved_(network: EarlyExits, samples: Tensor) -> EarlyExits:
    """Let about half of the open samples leave at each exit, far from each sample's confidence."""
    rows = [row[row > 0][None] for row in samples] if samples.ndim == 2 else list(samples.split(1))
    with torch.no_grad():
        found = [network.answers(row) for row in rows]
    for number in range(len(network.exits.after)):
        rising = torch.cat([network.confidences(each[:-1])[number] for each in found]).sort().values
        place = len(rows) // 2
        network.get_buffer(f"threshold{number}").fill_(float(rising[place - 1 : place + 1].mean()))
    return network


def with_exits(confidence: str = "max_probability", **settings: object) -> EarlyExits:
    network = encoder(depth=3, **settings)
    with torch.no_grad():
        for value in network.parameters():
            if value.ndim > 1:
                value.mul_(2)  # answers that differ
    torch.manual_seed(0)
    exits = Exits(after=("layer0", "layer1"), confidence=confidence)
    return EarlyExits(network, exits, sample=sentences()).eval()


@pytest.mark.parametrize(
    ("settings", "bits", "ranges"),
    [
        ({"norm": "pre", "positions": "rotary"}, (32, 32), "min_max"),
        ({"norm": "post", "embedding_width": 6, "sharing": "all"}, (4, 32), "min_max"),
        ({"norm": "pre", "pooling": "max"}, (8, 8), "min_max"),
        ({"norm": "post", "pooling": "first"}, (8, 8), "dynamic"),
    ],
    ids=str,
)
def test_a_text_takes_the_exit_of_the_module_with_any_padding(
    settings: dict[str, object], bits: tuple[int, int], ranges: str, tmp_path: Path
) -> None:
    samples = sentences()
    network = with_exits(**settings)
    small = quantize(
        network,
        weight_bits=bits[0],
        activation_bits=bits[1],
        calibration={"input": samples},
        ranges=ranges,
        # of 6 bits: no processor saturates
        layer_bits=dict.fromkeys(weight_layers(network), 6) if ranges == "dynamic" else None,
    )
    assert isinstance(small, EarlyExits)
    halved_(small, samples)
    file = tmp_path / "model.onnx"
    export_onnx(small, exit_signature(TEXT), file)
    session = open_session(file, signature=TEXT, optimised=bits[1] == 32)
    (given,) = session.get_inputs()
    assert given.shape == [1, "T"]
    tolerance = EXACT if bits[1] == 32 else 0.1
    taken = []
    for row, length in zip(samples, LENGTHS, strict=True):
        alone = {"input": row[:length][None].numpy()}
        answers, exit_ = session.run(["logits", "exit"], alone)
        with torch.no_grad():
            wanted, number = small(row[:length][None])
        assert exit_ == number.numpy()
        np.testing.assert_allclose(answers, wanted.numpy(), rtol=0, atol=tolerance)
        taken.append(int(exit_[0]))
        if bits[1] == 32:  # integers of a padded sample are rounded in other ranges
            padded, same = session.run(["logits", "exit"], {"input": np.pad(alone["input"], ((0, 0), (0, 3)))})
            assert same == exit_
            np.testing.assert_allclose(padded, answers, rtol=0, atol=tolerance)
    assert len(set(taken)) > 1


def test_a_file_counts_the_exits_that_agree_as_its_module_does(tmp_path: Path) -> None:
    network, samples = with_exits("patience", norm="pre"), sentences()
    file = tmp_path / "model.onnx"
    export_onnx(network, exit_signature(TEXT), file)
    session = open_session(file, signature=TEXT)
    for patience in (1.0, 2.0, inf):
        network.set_thresholds_([patience, patience])
        given = {name: np.array([patience], dtype=np.float32) for name in ("threshold0", "threshold1")}
        taken = []
        for row, length in zip(samples, LENGTHS, strict=True):
            with torch.no_grad():
                answers, number = network(row[None, :length])
                first, second, _ = (each.argmax() for each in network.answers(row[None, :length]))
            found, exit_ = session.run(["logits", "exit"], {"input": row[None, :length].numpy()} | given)
            np.testing.assert_allclose(found, answers.numpy(), rtol=0, atol=EXACT)
            assert exit_ == number.numpy() == (0 if patience == 1 else 1 if patience == 2 and first == second else 2)
            taken.append(int(number))
        assert patience != 2 or set(taken) == {1, 2}


@pytest.mark.parametrize("thresholds", [[1.5, 1.5], [0.0, 0.0], [3.0, 3.0], [1.0, 2.0]])
def test_patience_other_than_a_number_of_exits_is_refused(thresholds: list[float]) -> None:
    with pytest.raises(RequestError, match=r"^[^\n]*patience[^\n]*but got[^\n]*$"):
        Exits(after=("layer0", "layer1"), confidence="patience").check_thresholds(thresholds)


def test_batches_of_several_lengths_give_each_sample_its_own_exit() -> None:
    samples = sentences()
    network = halved_(with_exits(norm="pre"), samples)
    answers, exits = exits_taken(network, samples, padded=True)
    of_exits = exit_answers(network, samples, padded=True)
    for place, (row, length) in enumerate(zip(samples, LENGTHS, strict=True)):
        with torch.no_grad():
            alone, number = network(row[None, :length])
        assert int(exits[place]) == int(number)
        torch.testing.assert_close(answers[place], alone[0], rtol=0, atol=EXACT)
        torch.testing.assert_close(of_exits[int(number)][place], alone[0], rtol=0, atol=EXACT)


def test_an_exit_of_tokens_reads_the_mean_without_padding() -> None:
    head = ExitHead(1, 2)
    hidden = torch.tensor([[[2.0], [4.0], [9.0]]])
    mask = torch.tensor([[True, True, False]])
    assert head.pooled(hidden, mask).tolist() == [[3.0]]
    assert head.pooled(hidden).tolist() == [[5.0]]
    torch.testing.assert_close(head(hidden, mask), head.classifier(torch.tensor([[3.0]])))


def series_network() -> nn.Module:
    series = TensorSpec(name="input", dtype="float32", shape=("N", 3, 32))
    signature = Signature(inputs=(series,), outputs=(TensorSpec(name="logits", dtype="float32", shape=("N", 4)),))
    family = FAMILIES["conv1d"]
    settings = family.settings()
    widths = tuple(
        Width(layer=layer, asked=0.0, channels=8) for layer, _ in family.layers((1, 1, 1), family.base_widths, settings)
    )
    torch.manual_seed(0)
    return build_student(
        Architecture(family="conv1d", signature=signature, depths=(1, 1, 1), widths=widths, settings=settings)
    ).eval()


@pytest.mark.parametrize("bits", [(32, 32), (4, 8)])
def test_a_series_takes_the_exit_of_the_module(bits: tuple[int, int], tmp_path: Path) -> None:
    samples = torch.randn(16, 3, 32, generator=torch.manual_seed(0)) * 3
    network = EarlyExits(series_network(), Exits(after=("stage0", "stage1")), sample=samples).eval()
    small = quantize(network, weight_bits=bits[0], activation_bits=bits[1], calibration={"input": samples})
    assert isinstance(small, EarlyExits)
    halved_(small, samples)
    signature = Signature(
        inputs=(TensorSpec(name="input", dtype="float32", shape=("N", 3, 32)),),
        outputs=(TensorSpec(name="logits", dtype="float32", shape=("N", 4)),),
    )
    file = tmp_path / "model.onnx"
    export_onnx(small, exit_signature(signature), file)
    found = predict(open_session(file, signature=signature, optimised=bits[1] == 32), {"input": samples.numpy()})
    answers, exits = exits_taken(small, samples)
    np.testing.assert_array_equal(found["exit"], exits.numpy())
    np.testing.assert_allclose(found["logits"], answers.numpy(), rtol=0, atol=EXACT if bits[1] == 32 else 0.1)
    assert len(set(found["exit"].tolist())) > 1


def test_the_example_of_a_bundle_reads_a_text_and_prints_its_exit(tmp_path: Path) -> None:
    words = ("[PAD]", "[UNK]", "an", "un", "##exp", "##ected", "pleasure", ".", *(f"w{number}" for number in range(42)))
    pieces = WordPieces(pieces=words, longest=11)
    spec = replace(TEXT.inputs[0], pieces=pieces)
    signature = exit_signature(replace(TEXT, inputs=(spec,)))
    network = with_exits(norm="pre")
    export_onnx(network, signature, tmp_path / "model.onnx")
    (tmp_path / "word_pieces.py").write_text(Path(word_pieces.__file__).read_text())
    code = example_code(
        file_signature(tmp_path / "model.onnx"), "model.onnx", classes=3, names=("a", "b", "c"), exits=network.exits
    )
    (tmp_path / "example.py").write_text(code)

    def printed(*thresholds: str) -> str:
        command = [sys.executable, str(tmp_path / "example.py"), *thresholds]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode == 0) == (done.stderr == "")
        return done.stdout or done.stderr

    assert "at exit 0" in printed("0")
    assert "at exit 2" in printed("inf")
    assert "at exit 1" in printed("inf", "0")
    assert printed("a") == "a threshold must be a number, but got 'a'\n"
    assert printed("0", "0", "0") == "thresholds must be one number for all exits, or 2, but got 3\n"
