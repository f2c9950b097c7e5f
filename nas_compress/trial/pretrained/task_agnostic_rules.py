"""Rules about task-agnostic students: no label counts before the last stage of their training."""

from __future__ import annotations

from nas_compress.config.teacher_section import TeacherSection
from nas_compress.errors import RequestError
from nas_compress.losses.table import TERMS
from nas_compress.losses.term_kinds import STAGE, FeatureTerm
from nas_compress.pruning.importance_criteria import criterion_named
from nas_compress.values.candidate import Candidate


def require_task_agnostic(candidate: Candidate) -> None:
    """Require terms on features and on labels, and nothing that reads labels or moves the body in another stage."""
    names = ", ".join(term.name for term in candidate.losses)
    taught = [term.name for term in candidate.losses if TERMS[term.name].needs_teacher]
    answers = [name for name in taught if not isinstance(TERMS[name], FeatureTerm)]
    if answers:
        rule = "teacher='task_agnostic' has no answers to the task"
        raise RequestError(f"{rule}, but got loss {answers[0]!r}; use losses on features, such as sentence_embedding")
    if not taught or len(taught) == len(candidate.losses):
        rule = "teacher='task_agnostic' needs a loss on the teacher's features and one on labels"
        raise RequestError(f"{rule}, but got losses {names}")
    scheduled = next((term.name for term in candidate.losses if not dict(term.settings).keys().isdisjoint(STAGE)), None)
    if scheduled is not None or candidate.teaching.annealing or candidate.teaching.soft_stop < 1:
        got = f"begin or end of {scheduled}" if scheduled is not None else "annealing or soft_stop"
        raise RequestError(f"teacher='task_agnostic' has a schedule of its own, `distilled`, but got {got}")
    _require_no_labels(candidate)
    if candidate.teaching.body == "frozen":
        _require_still_body(candidate)


def _require_no_labels(candidate: Candidate) -> None:
    """Refuse choices of layers and channels by the loss on labels."""
    pruning = candidate.pruning
    if pruning.init != "inherit":
        return
    wanted = (
        "kept_blocks='importance'"
        if pruning.kept_blocks == "importance"
        else f"head_ratio={pruning.head_ratio:g}"
        if pruning.head_ratio > 0
        else f"pruning_criterion={pruning.criterion!r}"
        if pruning.ratio > 0 and criterion_named(pruning.criterion).needs_gradients
        else ""
    )
    if wanted:
        rule = "a task-agnostic student that inherits has layers and channels chosen without labels"
        raise RequestError(f"{rule}, but got {wanted}; use another choice, or teacher='fixed'")


def _require_still_body(candidate: Candidate) -> None:
    method, pattern = candidate.precision.quantization.method, candidate.sparsity.pattern
    wanted = f"zero_pattern={pattern!r}" if pattern != "none" else f"quantization.method={method!r}"
    if pattern != "none" or (candidate.precision.quantization.is_trained and candidate.precision.weight_bits < 32):
        rule = "body='frozen' needs a body that nothing changes after its features were learned"
        raise RequestError(f"{rule}, but got {wanted}; use method='calibrate' and no zeros, or body='tuned'")


def require_pretrained(teacher: TeacherSection, epochs: int) -> None:
    """Require a pretrained encoder, and an epoch for each of two stages."""
    if teacher.fine_tune is None:
        rule = "teacher='task_agnostic' needs an encoder of teacher.hugging_face with fine_tune (0 trains a head only)"
        raise RequestError(f"{rule}, but got teacher.{teacher.source}")
    if epochs < 2:
        raise RequestError(f"training.epochs >= 2 must hold for teacher='task_agnostic', but got {epochs}")
