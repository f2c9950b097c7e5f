"""Students that start from a pretrained encoder: dropped layers, narrower parts, fewer tokens, and their files."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor

from bert_folders import EPSILON, INNER, LAYERS, WIDTH
from inherited_contexts import ALL, bert_context
from nas_compress.config.schema import TrainingSection
from nas_compress.errors import RequestError
from nas_compress.models.networks.encoder import TokenEncoder
from nas_compress.pruning.depth import without_blocks
from nas_compress.teacher.derived import assistant
from nas_compress.trial.context import TrialContext
from nas_compress.trial.run import run_trial
from nas_compress.trial.shape import new_student, student_architecture
from nas_compress.values.candidate import Candidate, LossTerm, distillation
from nas_compress.values.family_settings import EncoderSettings


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> TrialContext:
    return bert_context(tmp_path_factory.mktemp("inherited"))


def student_of(candidate: Candidate, context: TrialContext) -> TokenEncoder:
    shape = student_architecture(candidate, context, seed=0)
    student = new_student(candidate, shape, context.teacher, seed=0).eval()
    assert isinstance(student, TokenEncoder)
    return student


def samples_of(context: TrialContext) -> Tensor:
    return context.dataset.validation.inputs["input"][:24]


def test_without_a_dropped_layer_the_logits_are_the_teachers(context: TrialContext, tmp_path: Path) -> None:
    student, samples = student_of(ALL, context), samples_of(context)
    with torch.no_grad():
        expected = context.teacher.network(samples)
        torch.testing.assert_close(student(samples), expected, rtol=0, atol=1e-6)
    assert {module.eps for module in student.layers.modules() if hasattr(module, "eps")} == {EPSILON}

    still = replace(context, training=TrainingSection(epochs=1, batch_size=16, learning_rate=1e-12))
    outcome = run_trial(ALL, still, seed=0, model=tmp_path / "all.onnx")
    assert outcome.state == "trained", outcome.reason
    found = onnxruntime.InferenceSession(tmp_path / "all.onnx").run(None, {"input": samples.numpy()})[0]
    np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("kept", "layers"), [("first", (0, 1)), ("last", (1, 2)), ("alternate", (0, 1)), ("spread", (0, 2))]
)
def test_the_layers_that_stay_have_the_teachers_weights(
    kept: str, layers: tuple[int, ...], context: TrialContext
) -> None:
    student = student_of(replace(ALL, depths=(2,), kept_blocks=kept), context)
    theirs, samples = context.teacher.network, samples_of(context)
    for layer, number in zip(student.layers, layers, strict=True):
        state = theirs.layers[number].state_dict()
        assert all(torch.equal(value, state[name]) for name, value in layer.state_dict().items())
    shorter = without_blocks(theirs, context.teacher._known_family, (layers,))
    with torch.no_grad():
        torch.testing.assert_close(student(samples), shorter(samples), rtol=0, atol=1e-6)


def test_the_layer_whose_loss_is_felt_least_goes_first(context: TrialContext) -> None:
    teacher = context.teacher
    rises = teacher._block_importance[0]
    order = sorted(range(LAYERS), key=lambda number: -rises[number])
    for depth in (1, 2):
        assert teacher.kept_blocks((depth,), "importance") == (tuple(sorted(order[:depth])),)


def test_fewer_tokens_take_the_first_positions(context: TrialContext) -> None:
    shorter = replace(ALL, settings=EncoderSettings(max_tokens=9))
    student, samples = student_of(shorter, context), samples_of(context)
    assert student.embedding.position is not None and len(student.embedding.position.weight) == 9
    with torch.no_grad():  # no sentence has more than nine
        torch.testing.assert_close(student(samples), context.teacher.network(samples), rtol=0, atol=1e-6)


def test_the_strongest_channels_stay_in_every_place_of_the_stream(context: TrialContext) -> None:
    network = deepcopy(context.teacher.network)
    strong, inner = (1, 4, 5, 7, 8, 10), (0, 3, 6, 9, 12, 15, 16, 17, 18, 19)
    with torch.no_grad():
        for name, values in network.named_parameters():
            if ".attention.output" in name or ".mlp.outer" in name or "norm" in name or "embedding" in name:
                weak = [channel for channel in range(WIDTH) if channel not in strong]
                (values if values.ndim == 1 or "embedding" not in name else values.T)[weak] *= 1e-3
        for layer in network.layers:
            weak = [channel for channel in range(INNER) if channel not in inner]
            layer.mlp.inner.weight[weak] *= 1e-3
            layer.mlp.inner.bias[weak] *= 1e-3
            layer.mlp.outer.weight[:, weak] *= 1e-3
    teacher = replace(context.teacher, network=network)
    half = replace(
        ALL, pruning_ratio=0.5, pruning_criterion="l1", pruning_ranking="local", head_ratio=0.34, min_heads=2
    )
    student = student_of(half, replace(context, teacher=teacher))
    assert torch.equal(student.embedding.table.weight, network.embedding.table.weight[:, list(strong)])
    for ours, theirs in zip(student.layers, network.layers, strict=True):
        assert torch.equal(ours.mlp_norm.weight, theirs.mlp_norm.weight[list(strong)])
        assert torch.equal(ours.mlp.inner.weight, theirs.mlp.inner.weight[list(inner)][:, list(strong)])
        assert ours.attention.heads == 2 and ours.attention.query.weight.shape == (8, 6)
    assert torch.equal(student.head.linear.weight, network.head.linear.weight[:, list(strong)])


@pytest.mark.parametrize(
    ("weights", "activations"), [(8, 32), pytest.param(4, 8, marks=pytest.mark.slow), (4, 32)], ids=str
)
def test_a_distilled_student_with_inherited_layers_trains_and_ships(
    weights: int, activations: int, context: TrialContext, tmp_path: Path
) -> None:
    candidate = replace(
        ALL,
        depths=(2,),
        kept_blocks="spread",
        weight_bits=weights,
        activation_bits=activations,
        losses=(
            *distillation(hard_weight=0.5, soft_weight=0.5, temperature=2.0),
            LossTerm(name="hidden_state", settings={"last_layers": 1}),
            LossTerm(name="attention_matrix"),
        ),
    )
    outcome = run_trial(candidate, context, seed=0, model=tmp_path / "model.onnx")
    assert outcome.state == "trained" and outcome.measured is not None, outcome.reason
    assert outcome.losses["hidden_state"] < 1.0
    assert (outcome.measured.max_difference or 0) < (1e-4 if activations == 32 else 0.5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depths": (4,)}, "at most its depths, encoder (3,), but got encoder (4,)"),
        ({"heads": 2}, "needs the teacher's 3 heads in attention, but got heads=2"),
        ({"width_multiplier": 2.0}, "needs at most the teacher's 12 channels in layers.0.attention.output, but got 24"),
        ({"mlp_ratio": 4.0}, "needs at most the teacher's 20 channels in layers.0.mlp.inner, but got 48"),
        ({"settings": EncoderSettings(max_tokens=17)}, "needs at most the teacher's max_tokens=16, but got"),
        ({"settings": EncoderSettings(max_tokens=16, norm="pre")}, "needs the teacher's norm='post', but got"),
        ({"family": "text_bag", "settings": None, "depths": (1,)}, "needs a student of the teacher's family"),
    ],
)
def test_inherited_parts_that_the_teacher_lacks_are_refused(
    change: dict[str, object], message: str, context: TrialContext
) -> None:
    with pytest.raises(RequestError) as caught:
        student_architecture(replace(ALL, **change), context, seed=0)  # type: ignore[arg-type]
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_an_assistant_of_a_fine_tuned_teacher_learns_like_a_student(context: TrialContext) -> None:
    training = TrainingSection(epochs=2, batch_size=32, learning_rate=2e-2)
    teacher = replace(context.teacher, training=training, derived_epochs=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NAS_COMPRESS_CACHE", str(context.teacher.folder.parent.parent))
        made = assistant(teacher, 0.5)
        again = assistant(replace(teacher, training=training.model_copy(update={"learning_rate": 1e-3})), 0.5)
    assert teacher.derived_epochs == 2 and made.fingerprint != again.fingerprint
