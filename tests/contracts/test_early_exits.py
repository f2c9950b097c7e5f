"""Early exits in every family with stages: one file, the same exits and answers as the module, all bits."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from nas_compress.devices.onnx_session import file_signature, open_session, read_model, start_session
from nas_compress.errors import RequestError
from nas_compress.export.onnx_file import export_onnx
from nas_compress.export.xz_container import MAGIC, compress, content_with_thresholds
from nas_compress.measurement.file_latency import count_exits
from nas_compress.measurement.memory.graph_memory import portable_memory, runtime_memory
from nas_compress.measurement.onnx_macs import count_exit_macs
from nas_compress.measurement.predictions import predict
from nas_compress.models.exits.network import EarlyExits, exit_signature
from nas_compress.models.exits.thresholds import choose_thresholds
from nas_compress.models.features import ObservableNetwork
from nas_compress.quantization.quantize import quantize
from nas_compress.trial.context import TrialContext
from nas_compress.trial.plan import candidate_rules
from nas_compress.values.candidate import PRUNED, Candidate, Exits
from nas_compress.values.exits.figures import ExitFigures, OperatingPoint, equal_rates, expected
from nas_compress.values.exits.settings import CONFIDENCES
from nas_compress.values.outcome import Measured
from nas_compress.values.signature import Signature

SIGNATURE = exit_signature(Signature.of_images((1, 8, 8), classes=10))
SAMPLES = torch.randint(0, 17, (24, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
PLACES = {"resnet": ("stage0", "stage1"), "mobilenet": ("stage1",), "vit": ("layer0",)}
NETWORKS = dict[str, ObservableNetwork]


def with_exits(trained: NETWORKS, family: str, confidence: str = "max_probability") -> EarlyExits:
    torch.manual_seed(0)
    exits = Exits(after=PLACES[family], confidence=confidence)
    return EarlyExits(trained[family], exits, sample=SAMPLES).eval()


def halve_(network: EarlyExits) -> None:
    """Thresholds that about half of the samples reach, far from each sample's confidence."""
    *early, _ = network.answers(SAMPLES)
    for number, sure in enumerate(network.confidences(early)):
        rising = np.sort(sure.detach().numpy())
        place = 8 + int(np.argmax(np.diff(rising[8:16])))
        network.get_buffer(f"threshold{number}").fill_(float(rising[place : place + 2].mean()))


@pytest.mark.parametrize(
    ("family", "bits", "confidence"),
    [
        ("resnet", (32, 32), "max_probability"),
        ("resnet", (4, 8), "entropy"),
        ("mobilenet", (8, 8), "margin"),
        ("mobilenet", (2, 32), "hinge"),
        ("vit", (8, 8), "max_probability"),
        ("vit", (16, 32), "hinge"),
    ],
)
def test_a_file_takes_the_exits_of_its_module(
    family: str, bits: tuple[int, int], confidence: str, trained: NETWORKS, tmp_path: Path
) -> None:
    network = with_exits(trained, family, confidence)
    small = quantize(network, weight_bits=bits[0], activation_bits=bits[1], calibration={"input": SAMPLES})
    assert isinstance(small, EarlyExits)
    halve_(small)
    file = tmp_path / "model.onnx"
    export_onnx(small, SIGNATURE, file)
    # as stored, because integer kernels of some processors saturate
    found = predict(open_session(file, signature=SIGNATURE, optimised=bits[1] == 32), {"input": SAMPLES.numpy()})
    with torch.no_grad():
        answers, exits = small(SAMPLES)
    assert 0 < np.count_nonzero(found["exit"] == 0) < len(SAMPLES)
    if bits[1] == 32:
        np.testing.assert_array_equal(found["exit"], exits.numpy())
        np.testing.assert_allclose(found["logits"], answers.numpy(), rtol=1e-3, atol=1e-3)
    else:
        same = found["exit"] == exits.numpy()
        assert same.mean() >= 0.9
        assert (found["logits"].argmax(1) == answers.numpy().argmax(1))[same].mean() >= 0.9


def test_the_thresholds_are_optional_inputs_of_the_file(trained: NETWORKS, tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    export_onnx(with_exits(trained, "resnet"), SIGNATURE, file)
    session = start_session(file.read_bytes())
    sample = {"input": SAMPLES[:1].numpy()}
    assert [value.name for value in session.get_overridable_initializers()] == ["threshold0", "threshold1"]
    assert file_signature(file).input_names == ("input",)

    def leaves(**thresholds: float) -> int:
        given = {name: np.array([value], dtype=np.float32) for name, value in thresholds.items()}
        return int(session.run(["exit"], sample | given)[0][0])

    assert [leaves(), leaves(threshold1=0.0), leaves(threshold0=0.0), leaves(threshold0=inf)] == [2, 1, 0, 2]


@pytest.mark.parametrize("family", list(PLACES))
def test_the_memory_of_a_file_with_exits_is_computed(family: str, trained: NETWORKS, tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    export_onnx(with_exits(trained, family), SIGNATURE, file)
    stored = sum(parameter.nbytes for parameter in trained[family].parameters())
    for memory in (runtime_memory(file), portable_memory(file)):
        assert memory.weights > 0.9 * stored
        assert memory.activations > 0


def test_a_batch_is_refused_by_the_file(trained: NETWORKS, tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    export_onnx(with_exits(trained, "resnet"), SIGNATURE, file)
    with pytest.raises(Exception, match="Expected: 1"):
        open_session(file).run(None, {"input": SAMPLES[:2].numpy()})


def test_weights_are_in_the_branch_that_reads_them(trained: NETWORKS, tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    export_onnx(with_exits(trained, "resnet"), SIGNATURE, file)
    model, level, convolutions = onnx.load(file), 0, []
    assert count_exits(model) == 2
    graph = model.graph
    while True:
        own = {tensor.name for tensor in graph.initializer}
        nodes = [node for node in graph.node if node.op_type == "Conv"]
        assert all(node.input[1] in own for node in nodes)
        convolutions.append(len(nodes))
        gates = [node for node in graph.node if node.op_type == "If"]
        if not gates:
            break
        graph, level = next(each.g for each in gates[0].attribute if each.name == "else_branch"), level + 1
    assert convolutions == [3, 5, 3]  # a stem and a block; two blocks and a shortcut; a block and a shortcut
    macs = count_exit_macs(file.read_bytes(), {"input": SAMPLES[:1].numpy()})
    assert list(macs) == sorted(macs)
    assert len(macs) == 3


def test_a_file_gets_other_thresholds(trained: NETWORKS, tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    export_onnx(with_exits(trained, "resnet"), SIGNATURE, file)
    for content in (file.read_bytes(), compress(file.read_bytes())):
        changed = content_with_thresholds(content, (0.25, None))
        other = tmp_path / ("other.onnx.xz" if changed.startswith(MAGIC) else "other.onnx")
        other.write_bytes(changed)
        stored = [numpy_helper.to_array(each) for each in read_model(other).graph.initializer if each.dims == [1]]
        assert [value.tolist() for value in stored][-2:] == [[0.25], [inf]]


def test_thresholds_have_the_least_expected_cost_for_the_stated_loss() -> None:
    sure = np.array([0.9, 0.8, 0.7, 0.6], dtype=np.float32)
    early, late = np.array([True, True, False, False]), np.array([True, True, True, False])
    free = choose_thresholds([sure], [early, late], [1.0, 3.0], accuracy_loss=0.0)
    assert (free.rates, free.accuracy) == ((0.5, 0.5), 0.75)
    assert 0.7 < free.thresholds[0] < 0.8
    quarter = choose_thresholds([sure], [early, late], [1.0, 3.0], accuracy_loss=0.25)
    assert (quarter.rates, quarter.accuracy) == ((0.75, 0.25), 0.5)
    dear = choose_thresholds([sure], [early, late], [3.0, 1.0], accuracy_loss=1.0)
    assert (dear.thresholds, dear.rates) == ((inf,), (0.0, 1.0))


def test_a_candidate_without_exits_keeps_its_fingerprint_and_its_record() -> None:
    plain = Candidate(family="resnet", depths=(1, 1, 1))
    assert "exits" not in plain.to_dict()
    assert plain.fingerprint == "f76e4624d70a03cb"
    measured = Measured(figures={"latency_ms": 1.0}, latency_spread=0.0, latency_noisy=False)
    assert "exits" not in measured.to_dict()


def test_exits_are_kept_in_records() -> None:
    candidate = Candidate(family="resnet", depths=(1, 1, 1), exits=Exits(after=("stage0",)))
    assert Candidate.from_dict(candidate.to_dict()) == candidate
    assert candidate.fingerprint != replace(candidate, exits=Exits(after=("stage1",))).fingerprint
    exits = ExitFigures(latency_ms=(1.0, 3.0), macs=(10, 30), rates=equal_rates(1))
    assert (exits.expected_ms, exits.expected_macs, exits.p95_ms, exits.assumed) == (2.0, 20.0, 3.0, True)


def test_operating_points_have_the_latencies_of_the_file() -> None:
    point = OperatingPoint(accuracy_loss=0.0, thresholds=(0.5,), accuracy=0.9, rates=(0.25, 0.75), latency_ms=9.0)
    forecast = ExitFigures(latency_ms=(9.0, 9.0), macs=(10, 30), rates=(0.5, 0.5), points=(point,))
    measured = forecast.timed((1.0, 3.0), stream_ms=(2.1, 3.0, 3.2), stream_samples=9)
    assert (measured.latency_ms, measured.points[0].latency_ms, measured.p95_ms) == ((1.0, 3.0), 2.5, 3.2)


def point_of(thresholds: tuple[float | None, ...], rates: tuple[float, float], accuracy: float) -> OperatingPoint:
    figures = {"accuracy": accuracy, "latency_ms": expected((1.0, 3.0), rates), "macs": 20}
    return OperatingPoint(
        accuracy_loss=0.0, thresholds=thresholds, accuracy=accuracy, rates=rates, latency_ms=2.0, figures=figures
    )


def test_a_trained_network_has_a_point_for_each_other_choice_of_thresholds() -> None:
    points = (
        point_of((0.9,), (0.2, 0.8), 0.95),
        replace(point_of((0.8,), (0.5, 0.5), 0.9), figures={}),  # the thresholds of the file
        point_of((0.7,), (0.8, 0.2), 0.8),
        point_of((0.7,), (0.8, 0.2), 0.8),
    )
    exits = ExitFigures(latency_ms=(1.0, 3.0), macs=(10, 30), rates=(0.5, 0.5), thresholds=(0.8,), points=points)
    assert [number for number, _ in exits.other_points] == [0, 2]
    figures = {"accuracy": 0.9, "latency_ms": 2.0, "size_bytes": 900, "macs": 20}
    measured = Measured(figures=figures, latency_spread=0.0, latency_noisy=False, exits=exits)
    at_point = measured.at_exit_point(2)
    assert dict(at_point.figures) == {"accuracy": 0.8, "latency_ms": pytest.approx(1.4), "size_bytes": 900, "macs": 20}
    assert at_point.exits is not None
    assert (at_point.exits.thresholds, at_point.exits.rates) == ((0.7,), (0.8, 0.2))
    own = at_point.exits.points[1]
    assert (dict(own.figures), own.rates) == ({"accuracy": 0.9, "latency_ms": 2.0, "macs": 20}, (0.5, 0.5))
    assert [number for number, _ in at_point.exits.other_points] == [0, 1]
    assert replace(measured, agreement=0.99).at_exit_point(2).agreement is None
    assert measured.at_exit_point(1) is measured
    with pytest.raises(RequestError, match="an exit point must be one of 0, 1, 2, 3, but got 7"):
        measured.at_exit_point(7)
    with pytest.raises(RequestError, match="need a network with exits, but got exit point 1 of one without"):
        replace(measured, exits=None).at_exit_point(1)
    with pytest.raises(RequestError, match=r"must be one of those measured \(none\), but got 1"):
        replace(measured, exits=replace(exits, points=())).at_exit_point(1)
    assert Measured.from_dict(measured.to_dict()) == measured


def test_a_record_from_before_operating_points_were_measured_loads() -> None:
    old = {"accuracy_loss": 0.0, "thresholds": [0.5], "accuracy": 0.9, "rates": [0.5, 0.5], "latency_ms": 2.0}
    own = {"latency_ms": [1.0], "macs": [1], "rates": [1.0], "thresholds": [0.4]}
    exits = ExitFigures.from_dict({**own, "points": [old]})
    assert (exits.other_points, exits.stream_samples) == ((), 0)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"after": ()}, "1 to 3 different stages"),
        ({"after": "stage0"}, r"a list of names, but got .stage0.; write"),
        ({"after": ("stage0", "stage0")}, "different stages"),
        ({"after": ("stage0",), "confidence": "sure"}, "a confidence must be a known name"),
        ({"after": ("stage0",), "accuracy_loss": 1.0}, "0 <= accuracy_loss < 1"),
        ({"after": ("stage0",), "confidence": "hinge", "target": "last_exit"}, "target='labels'"),
    ],
)
def test_settings_of_exits_are_checked(given: dict[str, object], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        Exits(**given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("after", "words"),
    [
        (("stage2",), "before the last one .stage0, stage1."),
        (("layer0",), "but got 'layer0'"),
        (("stage1", "stage0"), "forward order .stage0, stage1."),
    ],
)
def test_exits_without_their_stage_are_refused_before_training(
    after: tuple[str, ...], words: str, context: TrialContext
) -> None:
    candidate = Candidate(family="resnet", depths=(1, 1, 1), exits=Exits(after=after))
    with pytest.raises(RequestError, match=words):
        candidate_rules(context, seed=0).require(candidate)


def test_networks_without_stages_have_no_exits(context: TrialContext) -> None:
    with pytest.raises(RequestError, match="but got 'pruned'"):
        Candidate(family=PRUNED, depths=(), exits=Exits(after=("stage0",)))
    with pytest.raises(RequestError, match=r"use another family, or no exits|before the last one"):
        candidate_rules(context, seed=0).require(Candidate(family="mlp", depths=(1,), exits=Exits(after=("stage0",))))


def test_a_mean_latency_over_one_sample_is_refused(context: TrialContext) -> None:
    dataset = replace(context.dataset, validation=context.dataset.validation.first(1))
    candidate = Candidate(family="resnet", depths=(1, 1, 1), exits=Exits(after=("stage0",)))
    with pytest.raises(RequestError, match=r"exits need at least 20 validation samples .*, but got 1$"):
        candidate_rules(replace(context, dataset=dataset), seed=0).require(candidate)


@pytest.mark.parametrize("confidence", CONFIDENCES[:3])
def test_thresholds_outside_the_range_are_refused(confidence: str, trained: NETWORKS) -> None:
    network = with_exits(trained, "vit", confidence)
    with pytest.raises(RequestError, match="0 <= threshold <= 1"):
        network.set_thresholds_([1.5])
    with pytest.raises(RequestError, match=r"one per exit \(1\), but got 2"):
        network.set_thresholds_([0.5, 0.5])
