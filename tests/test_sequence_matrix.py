"""Families of sequences, prunings, bits and losses train, ship and agree in every combination, or are refused by name.

No combination is skipped: each one is trained, or the rules of candidates refuse it with the expected words.
The quick suite trains every network once, with every pruning and bits, and holds every reason of a refusal. The slow
one trains every combination of a network, a pruning and bits, with losses in turn, and every network with every loss,
with prunings and bits in turn.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nas_compress.config.schema import TrainingSection
from nas_compress.config.teacher_section import TeacherSection
from nas_compress.data.load_dataset import load_dataset
from nas_compress.devices.onnxruntime_cpu.device import OnnxruntimeCpu
from nas_compress.devices.protocol import NO_SIZES, Latency
from nas_compress.errors import RequestError
from nas_compress.losses.table import TERMS
from nas_compress.losses.term_kinds import FeatureTerm
from nas_compress.measurement.predictions import predict
from nas_compress.models.families import FAMILIES
from nas_compress.models.macs import count_macs
from nas_compress.tasks.batch import to_arrays
from nas_compress.trial.context import TrialContext
from nas_compress.trial.plan import candidate_rules
from nas_compress.trial.run import run_trial
from nas_compress.values.candidate import Candidate, LossTerm, Quantization
from nas_compress.values.family_settings import CELLS, family_settings
from nas_compress.values.signature import Signature, TensorSpec
from teachers import small_teacher_in

MODULE = '''
import numpy as np

from nas_compress.tasks.classification import Classification
from nas_compress.values.signature import TensorSpec, token_input


def tokens(samples):
    """Sentences of 2 to 9 tokens; the class says which of the tokens 2 and 3 is in it."""
    generator = np.random.default_rng(samples)
    ids = generator.integers(4, 12, (samples, 9), dtype="int32")
    lengths, classes = generator.integers(2, 10, samples), generator.integers(0, 2, samples)
    for row, (length, label) in enumerate(zip(lengths, classes)):
        ids[row, generator.integers(length)] = 2 + label
        ids[row, length:] = 0
    return {"input": ids}, {"label": classes.astype("int64")}


def numbers(samples):
    """Three channels of 16 steps; the class is the sign of the first one."""
    generator = np.random.default_rng(samples)
    classes = generator.integers(0, 2, samples)
    series = generator.normal(size=(samples, 3, 16)).astype("float32")
    series[:, 0] += 2 * classes[:, None] - 1
    return {"input": series}, {"label": classes.astype("int64")}


def text():
    return {"task": Classification(inputs=(token_input(12),), classes=2), "train": tokens(160), "test": tokens(32)}


def series():
    spec = TensorSpec(name="input", dtype="float32", shape=("N", 3, 16))
    return {"task": Classification(inputs=(spec,), classes=2), "train": numbers(160), "test": numbers(32)}
'''


@dataclass(frozen=True, kw_only=True)
class Network:
    """A student: its data, its family with settings, and its teacher, by default one of the same family."""

    name: str
    data: str = "text"
    family: str
    settings: tuple[tuple[str, Any], ...] = ()
    teacher: str = ""

    def __str__(self) -> str:
        return self.name


def recurrent(cell: str, data: str) -> Network:
    """A recurrent student, whose teacher has channels to rank."""
    return Network(
        name=f"{cell} {data}", data=data, family="recurrent", settings=(("cell", cell), ("embedding_width", 6)),
        teacher="encoder" if data == "text" else "conv1d",
    )  # fmt: skip


ALBERT = {"norm": "pre", "positions": "rotary", "embedding_width": 6, "sharing": "all", "pooling": "max"}
NETWORKS = (
    Network(name="text_bag", family="text_bag"),
    Network(name="text_cnn", family="text_cnn", settings=(("kernel_sizes", (2, 3)),)),
    *(recurrent(cell, "text") for cell in ("rnn", "lstm", "gru")),
    Network(name="encoder", family="encoder", settings=(("heads", 2),)),
    Network(name="albert", family="encoder", settings=(("heads", 2), *ALBERT.items())),
    Network(name="conv1d", data="series", family="conv1d", settings=(("kernel_size", 3),)),
    Network(name="separable", data="series", family="conv1d", settings=(("kernel_size", 3), ("depthwise", True))),
    *(recurrent(cell, "series") for cell in ("rnn", "lstm", "gru")),
)
PRUNINGS: dict[str, dict[str, Any]] = {
    "none": {},
    "narrow": {},
    "l1": {"pruning_ratio": 0.5, "pruning_criterion": "l1"},
    "taylor": {"pruning_ratio": 0.3, "pruning_criterion": "taylor", "pruning_ranking": "local"},
    "heads": {"head_ratio": 0.5},
    "layers": {"kept_blocks": "last", "init": "inherit"},
}
BITS = ((32, 32), (8, 32), (4, 32), (2, 32), (6, 8), (4, 8), (2, 8))
"""Products have 6 bits in place of 8, with which no processor saturates."""

LOSSES = [name for name in TERMS if name != "teacher_targets"]  # of regressions; see test_task_matrix.py
NEEDS = {name: term.needs if isinstance(term, FeatureTerm) else "" for name, term in TERMS.items()}
TEXT = Signature.of_tokens(vocabulary=12, classes=2)
SERIES = replace(TEXT, inputs=(TensorSpec(name="input", dtype="float32", shape=("N", 3, 16)),))
IMAGE = Signature.of_images((1, 8, 8), classes=2)
Combination = dict[str, Any]


class EqualLatencies(OnnxruntimeCpu):
    """The machine, on which every file takes the same time, so that the kernels asked for ship."""

    def latency(
        self, path: Path, *, sizes: Mapping[str, int] = NO_SIZES, key: str | None = None, patient: bool = False
    ) -> Latency:
        return Latency(latency_ms=1.0, spread=0.0, noisy=False)


def refused(given: Combination) -> str:
    """The words with which a combination is refused; empty if it is trained."""
    network, pruning, bits, loss = (given[name] for name in FACTORS)
    settings, needs = dict(network.settings), NEEDS[loss]
    if pruning == "heads" and network.family != "encoder":
        return "head_ratio needs a family with attention"
    if network.family == "recurrent" and bits[1] == 8 and settings["cell"] != "lstm":
        return "activation_bits of a recurrent network must be 32"
    if pruning == "layers" and settings.get("sharing"):
        return "init='inherit' needs layers with weights of their own"
    if pruning == "layers" and network.teacher:
        return "needs a student of the teacher's family"
    if pruning == "layers" and network.family in ("text_bag", "text_cnn"):
        return "init='inherit' needs the teacher's depths"
    if pruning == "layers" and settings.get("depthwise"):
        return "init='inherit' needs the teacher's depthwise=False"
    if needs == "maps" and network.family != "conv1d":
        return "needs a student with feature maps"
    if needs == "tokens" and network.family not in ("encoder", "recurrent"):
        return "needs a student with tokens"
    if needs == "tokens" and network.teacher == "conv1d":
        return "needs a teacher with tokens"
    if needs == "relations" and network.family != "encoder":
        return "needs a student with attention layers"
    return ""


FACTORS: dict[str, list[Any]] = {
    "network": list(NETWORKS),
    "pruning": list(PRUNINGS),
    "bits": list(BITS),
    "loss": LOSSES,
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sequences")
    (folder / "sequence_data.py").write_text(MODULE)
    return folder


TEACHERS: dict[str, dict[str, Any]] = {
    "encoder": {"heads": 2},
    "text_cnn": {"kernel_sizes": (2, 3)},
    "conv1d": {"kernel_size": 3},
}


def context_of(home: Path, network: Network) -> TrialContext:
    return taught_by(home, network.data, network.teacher or network.family)


@functools.cache
def taught_by(home: Path, data: str, family: str) -> TrialContext:
    """A teacher of two layers, or of two stages with a second block in the last."""
    dataset = load_dataset(factory=f"sequence_data:{data}", folder=home)
    stages = {"conv1d": ((8, 8), (1, 2))}.get(family, ((16,), (2,)))
    settings = family_settings(family, TEACHERS.get(family, {}))
    section = TeacherSection(
        family=family, widths=stages[0], depths=stages[1], epochs=1, learning_rate=1e-2, settings=settings
    )
    teacher = small_teacher_in(home / data / family, section, dataset)
    return TrialContext(
        dataset=dataset,
        teacher=teacher,
        teacher_macs=count_macs(teacher.network, dataset.train.first(1).inputs),
        target=EqualLatencies(),
        training=TrainingSection(epochs=1, batch_size=16, learning_rate=1e-2),
        budgets=(),
        device=torch.device("cpu"),
    )


def candidate_of(given: Combination) -> Candidate:
    network, pruning, bits, loss = (given[name] for name in FACTORS)
    depths = (1,) if network.family == "recurrent" else (1, 2) if network.family == "conv1d" else (2,)
    if pruning == "layers":
        depths = (1,) * len(depths)
    own = {"relation_heads": 2.0} if loss == "minilm_relations" else {}
    names = [loss] if NEEDS[loss] == "" else ["cross_entropy", loss]
    method = "lsq" if bits[0] in (2, 4) and pruning in ("none", "heads") else "calibrate"
    ranges = "dynamic" if network.family == "encoder" and bits[1] == 8 else ""
    return Candidate(
        family=network.family,
        depths=depths,
        round_to=2,
        settings=family_settings(network.family, dict(network.settings)),
        weight_bits=bits[0],
        activation_bits=bits[1],
        quantization=Quantization(method=method, ranges=ranges, end_bits=min(bits[0], 6) if bits[1] == 8 else 8),
        losses=tuple(LossTerm(name=name, settings=own if name == loss else {}) for name in names),
        width_multiplier=(0.125 if network.family == "recurrent" else 1.0) * (0.5 if pruning == "narrow" else 1.0),
        **PRUNINGS[pruning],
    )


def check(given: Combination, home: Path, model: Path) -> None:
    """Train one combination; its outcome must agree with its file."""
    context, candidate = context_of(home, given["network"]), candidate_of(given)
    if candidate.precision.quantization.is_trained:
        context = replace(context, training=context.training.model_copy(update={"epochs": 2}))
    outcome = run_trial(candidate, context, seed=0, model=model)
    assert outcome.state == "trained", outcome.reason
    measured, validation = outcome.measured, context.dataset.validation
    assert measured is not None and set(outcome.losses) == {term.name for term in candidate.losses}
    assert measured.figures["size_bytes"] == model.stat().st_size
    assert measured.figures["macs"] > 0 and outcome.integer_latency_ms is None
    answers = predict(model, to_arrays(validation.inputs))["logits"]
    accuracy = float((answers.argmax(axis=1) == validation.targets["label"].numpy()).mean())
    assert np.isfinite(answers).all() and measured.figures["accuracy"] == pytest.approx(accuracy)
    assert measured.agreement is not None and measured.agreement >= (0.999 if given["bits"][1] == 32 else 0.9)


def name_of(given: Combination) -> str:
    return " ".join(str(value) for value in given.values())


def in_turn(others: Mapping[str, list[Any]]) -> list[Combination]:
    """Every combination of the factors not in `others`, whose values change from one to the next."""
    every = {name: values for name, values in FACTORS.items() if name not in others}
    found = [dict(zip(every, values, strict=True)) for values in itertools.product(*every.values())]
    for name, values in others.items():
        for each, value in zip(found, itertools.cycle(values), strict=False):
            each[name] = value
    return [{name: each[name] for name in FACTORS} for each in found]


OF_ANY = [loss for loss in LOSSES if NEEDS[loss] in ("", "features")]
SHAPES = in_turn({"loss": OF_ANY})
TAUGHT = in_turn({"pruning": ["none", "narrow"], "bits": [(32, 32), (4, 32), (2, 32)]})
TRAINED = [each for each in [*SHAPES, *TAUGHT] if not refused(each)]
REFUSED = [each for each in [*SHAPES, *TAUGHT] if refused(each)]
QUICK = [
    next(each for each in TRAINED if [each["network"], each["pruning"], each["bits"]] == [network, pruning, bits])
    for network, (pruning, bits) in zip(
        NETWORKS,
        [
            ("l1", (4, 8)), ("taylor", (6, 8)), ("narrow", (4, 32)), ("narrow", (4, 8)), ("l1", (8, 32)),
            ("layers", (4, 8)), ("heads", (2, 8)), ("layers", (2, 32)), ("taylor", (2, 8)), ("none", (32, 32)),
            ("narrow", (2, 8)), ("taylor", (4, 32)),
        ],
        strict=True,
    )
]  # fmt: skip


def test_nothing_is_left_out() -> None:
    assert {network.family for network in NETWORKS} == {
        name
        for name, family in FAMILIES.items()
        if family.fits(TEXT) or (family.fits(SERIES) and not family.fits(IMAGE))
    }
    assert {dict(network.settings).get("cell") for network in NETWORKS} >= set(CELLS)
    assert {each["pruning"] for each in QUICK} == set(PRUNINGS) and {each["bits"] for each in QUICK} == set(BITS)
    # without heads 10 networks; integer cells rnn and gru twice, with 5 prunings left; layers of bags and filters, of a
    # recurrent network with 4 or 7 pairs of bits, shared ones, and separable ones
    refused_shapes = 10 * 7 + 4 * 3 * 5 + 2 * 7 + (4 * 4 + 2 * 7) + 7 + 7
    # maps are of 2 networks; tokens of 2 encoders and 3 recurrent networks; relations of 2 encoders
    refused_losses = 2 * 10 + 2 * (12 - 5) + 2 * 10
    assert len(SHAPES) == 12 * 6 * 7 and len(TAUGHT) == 12 * 20
    assert len(REFUSED) == refused_shapes + refused_losses


FEW = list({(given["network"], refused(given)): given for given in REFUSED}.values())
"""A combination of each network with each reason."""


@pytest.mark.parametrize("every", [FEW, pytest.param(REFUSED, marks=pytest.mark.slow)], ids=["few", "all"])
def test_every_other_combination_is_refused_by_name(every: list[Combination], home: Path) -> None:
    for given in every:
        rules = candidate_rules(context_of(home, given["network"]), seed=0)
        with pytest.raises(RequestError, match=re.escape(refused(given))):
            rules.require(candidate_of(given))


@pytest.mark.parametrize("given", QUICK, ids=name_of)
def test_every_network_trains_and_ships(given: Combination, home: Path, tmp_path: Path) -> None:
    check(given, home, tmp_path / "model.onnx")


@pytest.mark.slow
@pytest.mark.parametrize("given", TRAINED, ids=name_of)
def test_every_combination_trains_and_ships(given: Combination, home: Path, tmp_path: Path) -> None:
    check(given, home, tmp_path / "model.onnx")
