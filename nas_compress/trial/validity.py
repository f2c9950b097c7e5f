"""Rules about the candidates that may be tried. Each raises RequestError if it is broken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import nn

from nas_compress.config.teacher_section import TeacherSection
from nas_compress.data.dataset import Dataset
from nas_compress.errors import RequestError, require_known
from nas_compress.losses.table import TERMS, check_terms, feature_terms, needs_teacher, reads_answers
from nas_compress.losses.term_kinds import LogitTerm
from nas_compress.losses.training_loss import TrainingLoss
from nas_compress.measurement.exit_use import require_exits_task
from nas_compress.models.exits.network import EarlyExits, first_input
from nas_compress.models.families import FAMILIES, require_fitting
from nas_compress.models.features import Observation
from nas_compress.models.shapes_only import shapes_only
from nas_compress.pruning.depth import KEPT_BLOCKS
from nas_compress.pruning.importance_criteria import criterion_named
from nas_compress.pruning.ranking import require_ranking
from nas_compress.quantization.traced.activation_points import with_activation_points
from nas_compress.tasks.batch import zeros
from nas_compress.teacher.derived import JOINED, require_joined
from nas_compress.teacher.input_size_rules import require_picture_size
from nas_compress.teacher.obtain import teacher_architecture
from nas_compress.training.objective import observe
from nas_compress.training.sparsity import sparse_layers
from nas_compress.trial.pretrained.gradual import require_gradual
from nas_compress.trial.pretrained.task_agnostic_rules import require_pretrained, require_task_agnostic
from nas_compress.values.architecture import Architecture
from nas_compress.values.candidate import PRUNED, Candidate, Exits, Teaching
from nas_compress.values.exits.figures import FEWEST_SAMPLES
from nas_compress.values.precision import DYNAMIC


def check_candidate(candidate: Candidate) -> None:
    """Require known names and consistent values."""
    if candidate.teaching.peer_family is not None:
        require_known("peer_family", candidate.teaching.peer_family, [*FAMILIES, PRUNED])
    criterion_named(candidate.pruning.criterion)
    require_ranking(candidate.pruning.ranking)
    require_known("kept_blocks", candidate.pruning.kept_blocks, KEPT_BLOCKS)
    check_terms(candidate.losses)
    if candidate.shape.family == PRUNED and candidate.precision.quantization.ranges == DYNAMIC:
        raise RequestError("ranges='dynamic' needs a family of encoder layers (vit, encoder), but got family 'pruned'")
    if candidate.shape.family != PRUNED:
        _require_attention(candidate)
        family = FAMILIES[candidate.shape.family]
        if candidate.precision.quantization.ranges == DYNAMIC:
            family.require_dynamic_ranges()
        family.require_activation_bits(candidate.precision.activation_bits, candidate.shape.settings)
    settings = candidate.shape.settings
    if candidate.pruning.init == "inherit" and settings.shares_weights:
        raise RequestError(f"init='inherit' needs layers with weights of their own, but got {settings}")
    if settings != settings.without_teacher() and not needs_teacher(candidate.losses):
        wanted = " and ".join(settings.from_teacher)
        names = ", ".join(term.name for term in candidate.losses)
        raise RequestError(f"{wanted} needs a loss that reads the teacher's answers, but got {names}")
    if candidate.teaching.teacher == "mutual" and all(TERMS[term.name].needs_teacher for term in candidate.losses):
        raise RequestError(
            "mutual learning needs a term on labels, which its networks cannot learn from each other, "
            f"but got {', '.join(term.name for term in candidate.losses)}"
        )
    if candidate.teaching.teacher == "apprentice" and not candidate.precision.quantization.is_trained:
        raise RequestError(
            "teaching.teacher='apprentice' needs a student that learns under rounding "
            f"(quantization.method 'lsq' or 'ste'), but got method={candidate.precision.quantization.method!r}"
        )
    if candidate.teaching.teacher in JOINED and not reads_answers(candidate.losses):
        raise RequestError(
            f"teacher={candidate.teaching.teacher!r} needs a loss on the teacher's logits, such as kd, but got "
            f"{', '.join(term.name for term in candidate.losses)}"
        )
    if candidate.teaching.teacher == "task_agnostic":
        require_task_agnostic(candidate)
    if candidate.teaching != Teaching() and not needs_teacher(candidate.losses):
        raise RequestError(
            f"teaching needs a term on the teacher among the losses ({candidate.teaching.teacher!r} is asked for), "
            f"but got {', '.join(term.name for term in candidate.losses)}"
        )


def _require_attention(candidate: Candidate) -> None:
    if candidate.pruning.head_ratio > 0 and not FAMILIES[candidate.shape.family].has_attention:
        known = ", ".join(name for name, family in FAMILIES.items() if family.has_attention)
        raise RequestError(
            f"head_ratio needs a family with attention ({known}), but got head_ratio={candidate.pruning.head_ratio} "
            f"for family {candidate.shape.family!r}"
        )


def require_layers(candidate: Candidate, teacher: TeacherSection, *, where: str = "") -> None:
    """Refuse a candidate that uses layers or ranked channels that the teacher does not have.

    where: start of the error.
    """
    if not teacher.gives_answers_only:
        _require_channels(candidate, teacher, where)
        return
    pruning, teaching = candidate.pruning, candidate.teaching
    features = feature_terms(candidate.losses) if teaching.teacher not in ("assistant", "mutual") else ()
    wanted = (
        "family 'pruned'"
        if candidate.shape.family == PRUNED
        else f"pruning_ratio={pruning.ratio:g}"
        if pruning.ratio > 0
        else f"head_ratio={pruning.head_ratio:g}"
        if pruning.head_ratio > 0
        else "init='inherit'"
        if pruning.init == "inherit"
        else "scheme='joint'"
        if teaching.scheme == "joint"
        else f"loss {features[0].name!r}"
        if features
        else ""
    )
    if wanted:
        raise RequestError(
            f"{where}{wanted} needs the layers of a teacher, but teacher.{teacher.source} gives answers only; use a "
            "family without pruning and losses on logits"
        )


def _require_channels(candidate: Candidate, teacher: TeacherSection, where: str) -> None:
    pruning = candidate.pruning
    if not teacher.is_trained or FAMILIES[teacher.family].has_channels:
        return
    wanted = f"pruning_ratio={pruning.ratio:g}" if pruning.ratio > 0 else "init='inherit'"
    if pruning.ratio > 0 or pruning.init == "inherit":
        raise RequestError(
            f"{where}the teacher must have channels to rank, but got {wanted} with a teacher of family "
            f"{teacher.family!r}; width_multiplier makes its students narrower"
        )


@dataclass(frozen=True, kw_only=True)
class CheckedCandidate:
    """A candidate that passed every rule of its study, with the shapes that the rules computed.

    peer: shape of its peers in mutual learning, None without peers.
    """

    candidate: Candidate
    architecture: Architecture
    peer: Architecture | None


class CandidateRules:
    """Rules about the candidates of one study; each combination of losses, teaching and shapes is checked once.

    teacher: section of the study file, named `label` in errors. own_network: builds the module of a teacher with a
    `factory`. build: builds a network of an architecture. shape, peer_shape: shape a candidate, and its peers in mutual
    learning; RequestError if they have no shape. samples_per_run: of the target device. epochs: of a training.
    """

    def __init__(
        self,
        *,
        dataset: Dataset,
        batch_size: int,
        teacher: TeacherSection,
        label: str,
        own_network: Callable[[], nn.Module],
        build: Callable[[Architecture], nn.Module],
        shape: Callable[[Candidate], Architecture],
        peer_shape: Callable[[Candidate], Architecture],
        samples_per_run: int,
        epochs: int,
    ) -> None:
        self._samples_per_run, self._epochs = samples_per_run, epochs
        self._dataset, self._batch_size = dataset, min(batch_size, len(dataset.train))
        self._teacher, self._label, self._own_network = teacher, label, own_network
        self._build, self._shape, self._peer_shape = build, shape, peer_shape
        self._passed: set[object] = set()

    def require(self, candidate: Candidate) -> CheckedCandidate:
        """Require a candidate of the study with all its losses and settings; return it with its shapes."""
        check_candidate(candidate)
        require_layers(candidate, self._teacher)
        for family in (candidate.shape.family, candidate.teaching.peer_family):
            if family is not None:
                require_fitting(family, self._dataset.task.signature)
        if candidate.pruning.rounds > 1:
            require_gradual(candidate, self._epochs)
        architecture = self._shape(candidate)
        self._require_size(candidate, architecture)
        peer = self._peer_shape(candidate) if candidate.teaching.teacher == "mutual" else None
        watched = bool(feature_terms(candidate.losses))
        key = (candidate.losses, candidate.teaching, (architecture, peer) if watched else None)
        if key not in self._passed:
            self._require_batch(candidate)
            self._require_soft_labels(candidate)
            self._require_trained_teacher(candidate)
            if candidate.teaching.teacher in JOINED:
                require_joined(self._dataset, candidate.teaching.folds)
            self._require_features(candidate, architecture, peer, watched=watched)
            self._passed.add(key)
        if candidate.sparsity.pattern != "none":
            with shapes_only():
                sparse_layers(self._build(architecture), candidate.sparsity.pattern)
        if candidate.precision.activation_bits < 32:
            self._require_activation_points(candidate)
        if candidate.exits is not None:
            self._require_exits(candidate.exits, architecture)
        return CheckedCandidate(candidate=candidate, architecture=architecture, peer=peer)

    def _require_size(self, candidate: Candidate, architecture: Architecture) -> None:
        """Require networks that take pictures of another size than the teacher's."""
        given = candidate.pruning.init == "inherit"
        key = ("size", candidate.data_size, candidate.shape.family, candidate.teaching.scheme, given and architecture)
        if self._dataset.at(candidate.data_size) is not self._dataset and key not in self._passed:
            require_picture_size(
                candidate, architecture, self._dataset, own_network=self._own_network, build=self._build
            )
            self._passed.add(key)

    def _require_exits(self, exits: Exits, architecture: Architecture) -> None:
        """Require stages for exits, one class per sample, and a device that runs one sample at a time."""
        require_exits_task(self._dataset.task)
        if len(self._dataset.validation) < FEWEST_SAMPLES:
            raise RequestError(
                f"exits need at least {FEWEST_SAMPLES} validation samples for a mean latency and its 95th percentile, "
                f"but got {len(self._dataset.validation)}"
            )
        if self._samples_per_run != 1:
            raise RequestError(
                "a device that runs one sample at a time must be given for exits, which decide for a whole batch, "
                f"but got target.batch={self._samples_per_run}"
            )
        if ("exits", exits, architecture) in self._passed:
            return
        with shapes_only():
            sample = first_input(zeros(architecture.signature.inputs, 2), device="meta")
            EarlyExits(self._build(architecture).eval(), exits, sample=sample)
        self._passed.add(("exits", exits, architecture))

    def _require_batch(self, candidate: Candidate) -> None:
        """Require enough samples per batch for losses on pairs and triples."""
        for term in candidate.losses:
            least = TERMS[term.name].min_batch
            if self._batch_size < least:
                raise RequestError(
                    f"training.batch_size >= {least} must hold for loss {term.name!r}, which compares samples, "
                    f"but got {self._batch_size}"
                )

    def _require_soft_labels(self, candidate: Candidate) -> None:
        """Require losses that take the soft targets of mixed samples."""
        for term in candidate.losses:
            row = TERMS[term.name]
            if self._dataset.augmentation.mixes and isinstance(row, LogitTerm) and not row.soft_labels:
                raise RequestError(
                    f"loss {term.name!r} needs one class for each sample, but data.mixup and data.cutmix mix classes; "
                    "use another loss such as 'kd', or leave them out"
                )

    def _require_trained_teacher(self, candidate: Candidate) -> None:
        """Require a teacher trained by the study if its training is repeated or its checkpoints are read."""
        if candidate.teaching.teacher == "task_agnostic":
            require_pretrained(self._teacher, self._epochs)
        if self._teacher.is_trained:
            return
        teaching = candidate.teaching
        wanted = (
            f"teacher={teaching.teacher!r}"
            if teaching.teacher in ("ensemble", *JOINED)
            else f"checkpoint={teaching.checkpoint:g}"
            if teaching.checkpoint not in (None, 1.0)
            else ""
        )
        if wanted:
            raise RequestError(
                f"teaching with {wanted} needs a teacher that the study trains, not teacher.{self._teacher.source}"
            )

    def _require_features(
        self, candidate: Candidate, architecture: Architecture, peer: Architecture | None, *, watched: bool
    ) -> None:
        """Require the features of every loss, in the student and in the network it learns from."""
        student = self._observe(architecture) if watched else None
        if peer is None:
            # an assistant belongs to a family of this package even if its own teacher does not
            assisted = candidate.teaching.teacher == "assistant"
            teacher = None if not watched else self._family_features if assisted else self._teacher_features
            self._require_loss(candidate, student, teacher)
        else:  # each learns from the other
            other = self._observe(peer) if watched else None
            self._require_loss(candidate, student, other)
            self._require_loss(candidate, other, student)

    def _require_loss(self, candidate: Candidate, student: Observation | None, teacher: Observation | None) -> None:
        with torch.device("meta"):
            TrainingLoss(
                self._dataset.task,
                candidate.losses,
                student=student,
                teacher=teacher,
                annealing=candidate.teaching.annealing,
                soft_stop=candidate.teaching.soft_stop,
            )

    def _require_activation_points(self, candidate: Candidate) -> None:
        """Require a user's module that gets activation points if its pruned students are quantized."""
        data = self._dataset.at(candidate.data_size)
        key = ("traced", data.fingerprint)
        if candidate.shape.family == PRUNED and key not in self._passed:
            with_activation_points(self._own_network(), data.example, watched=self._teacher.features)
            self._passed.add(key)

    @cached_property
    def _teacher_features(self) -> Observation:
        """Features of the study's teacher; a user's module has those in `teacher.features`."""
        if self._teacher.is_trained:
            return self._family_features
        batch, task = self._dataset.example, self._dataset.task
        with torch.no_grad():
            return observe(self._own_network().eval(), batch, task, watched=self._teacher.features)

    @cached_property
    def _family_features(self) -> Observation:
        """Features of a network of the teacher's family and depth."""
        return self._observe(teacher_architecture(self._teacher, self._dataset, self._label))

    def _observe(self, architecture: Architecture) -> Observation:
        """Observe two samples on the meta device, or on the CPU for a user's module."""
        place = torch.device("cpu") if architecture.family == PRUNED else shapes_only()
        with place, torch.no_grad():
            batch, task = zeros(architecture.signature.inputs, 2), self._dataset.task
            network = self._build(architecture).eval()
            return observe(network, batch, task, relations=True, watched=self._teacher.features)
