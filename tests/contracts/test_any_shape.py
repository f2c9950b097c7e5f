"""Random ratios, depths and widths: whatever may be asked for builds, learns a step and ships, or is refused in a line.

Few examples in the quick suite, the same each time; many in the slow one.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from image_files import export_images, predict_logits
from nas_compress.errors import RequestError
from nas_compress.models.families import FAMILIES
from nas_compress.models.features import ObservableNetwork
from nas_compress.pruning.depth import KEPT_BLOCKS
from nas_compress.pruning.importance_criteria import CRITERIA
from nas_compress.pruning.ranking import RANKINGS
from nas_compress.teacher.teacher import Teacher
from nas_compress.trial.context import TrialContext
from nas_compress.trial.shape import new_student, student_architecture
from nas_compress.trial.validity import check_candidate
from nas_compress.values.candidate import PRUNED, Candidate
from nas_compress.values.signature import Signature

IMAGES = Signature.of_images((1, 8, 8), classes=10)
DEPTHS = {name: (3, 2, 2)[: len(family.base_depths)] for name, family in FAMILIES.items() if family.fits(IMAGES)}
LABELS = torch.arange(8) % 10

some = settings(
    max_examples=10,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
many = settings(some, max_examples=100)


@st.composite
def candidates(draw: st.DrawFn) -> tuple[str, Candidate]:
    """The teacher's family, and a candidate of any shape for it."""
    teacher, family = draw(st.sampled_from([*DEPTHS])), draw(st.sampled_from([*DEPTHS, PRUNED]))
    stages = 0 if family == PRUNED else len(DEPTHS[family])
    depths = tuple(draw(st.lists(st.integers(1, 4), min_size=stages, max_size=stages)))
    init = draw(st.sampled_from(["scratch", "inherit"] if family in (teacher, PRUNED) else ["scratch"]))
    if init == "inherit":
        depths = tuple(map(min, depths, DEPTHS.get(family, ())))
    heads = draw(st.sampled_from([0.0, 0.3, 0.8])) if teacher == "vit" and family in ("vit", PRUNED) else 0.0
    criteria = [name for name in CRITERIA if name != "bn_scale" or teacher not in ("vit", "mlp")]
    return teacher, Candidate(
        family=family,
        depths=depths,
        kept_blocks=draw(st.sampled_from([*KEPT_BLOCKS])) if family == teacher else "first",
        width_multiplier=draw(st.floats(0.05, 1.0)),
        pruning_ratio=draw(st.floats(0.0, 0.9)),
        pruning_criterion=draw(st.sampled_from(criteria)),
        pruning_ranking=draw(st.sampled_from([*RANKINGS])),
        pruning_min_channels=draw(st.integers(1, 3)),
        head_ratio=heads,
        min_heads=draw(st.integers(1, 2)),
        round_to=draw(st.integers(1, 9)),
        init=init,
    )


@pytest.fixture(scope="module")
def teachers(context: TrialContext, make_network: Callable[..., ObservableNetwork]) -> dict[str, Teacher]:
    """A teacher of each family with several blocks; how well it does is of no matter here."""
    made = {}
    for family, depths in DEPTHS.items():
        network = make_network(family, depths, shrink=2)
        widths = tuple(width // 2 for width in FAMILIES[family].base_widths)
        made[family] = replace(
            context.teacher,
            network=network,
            family=family,
            depths=depths,
            base_widths=widths,
            make=lambda family=family, depths=depths: make_network(family, depths, shrink=2),
        )
    return made


def build_train_ship(candidate: Candidate, teacher: Teacher, context: TrialContext) -> None:
    shape = (1, 8, 8)
    try:
        check_candidate(candidate)
        architecture = student_architecture(candidate, replace(context, teacher=teacher), seed=0)
        student = new_student(candidate, architecture, teacher, seed=0).train()
    except RequestError as error:
        event("refused")
        assert "\n" not in str(error) and any(word in str(error) for word in ("must", "needs"))
        return
    event(f"{candidate.shape.family} of a {teacher.family}")
    assert all(width.channels >= 1 for width in architecture.widths)
    samples = context.dataset.train.inputs["input"][:8]
    optimiser = torch.optim.SGD(student.parameters(), lr=1e-3)
    F.cross_entropy(student(samples), LABELS).backward()
    assert all(value.grad is not None for value in student.parameters())
    optimiser.step()
    student.eval()
    with tempfile.TemporaryDirectory() as folder:
        export_images(student, shape, Path(folder) / "model.onnx")
        answers = predict_logits(Path(folder) / "model.onnx", samples.numpy())
    with torch.no_grad():
        np.testing.assert_allclose(answers, student(samples).numpy(), rtol=1e-3, atol=1e-3)


@pytest.mark.slow
@some
@given(drawn=candidates())
def test_any_shape_builds_trains_and_ships(
    drawn: tuple[str, Candidate], teachers: dict[str, Teacher], context: TrialContext
) -> None:
    teacher, candidate = drawn
    build_train_ship(candidate, teachers[teacher], context)


@pytest.mark.slow
@many
@given(drawn=candidates())
def test_many_shapes_build_train_and_ship(
    drawn: tuple[str, Candidate], teachers: dict[str, Teacher], context: TrialContext
) -> None:
    teacher, candidate = drawn
    build_train_ship(candidate, teachers[teacher], context)
