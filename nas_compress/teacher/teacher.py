"""Obtain the teacher of a study: from the store by its fingerprint, by training it once, or from the user."""

from __future__ import annotations

import hashlib
import json
import operator
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from nas_compress.config.schema import TeacherSection, TrainingSection
from nas_compress.data.dataset import Dataset, Split
from nas_compress.errors import RequestError
from nas_compress.files import cache_folder, write_json
from nas_compress.losses.table import TASK_LOSS
from nas_compress.losses.training_loss import TrainingLoss
from nas_compress.models.families import build_student, family_named
from nas_compress.models.family import AnyFamily
from nas_compress.pruning.channel_groups import ChannelGroup
from nas_compress.pruning.depth import Kept, block_importance, choose_blocks, removable_blocks, without_blocks
from nas_compress.pruning.heads import rank_heads
from nas_compress.pruning.importance import rank_channels
from nas_compress.pruning.user_module import build_network
from nas_compress.quantization.sensitivity import Sensitivity, layer_sensitivities
from nas_compress.tasks.task import Task
from nas_compress.teacher.logits_cache import cached_answers
from nas_compress.teacher.store import Training, kept_or_trained
from nas_compress.teacher.user_module import build_own_module, load_own_teacher
from nas_compress.training.objective import LossObjective, Objective, PenalisedObjective
from nas_compress.values.architecture import Architecture, Width

GRADIENT_BATCHES, GRADIENT_BATCH = 16, 32
"""How many batches `taylor` averages over, and the samples of each."""

SENSITIVITY_SAMPLES = 256

Progress = Callable[[str, int, int], None]
"""(what is being done, steps finished, steps in all)."""


@dataclass(kw_only=True, eq=False)
class Teacher:
    """A trained network in eval mode on the study's device, and what students ask of it.

    `derived_epochs` counts those that this process has trained for teachers derived from it.
    """

    network: nn.Module
    fingerprint: str
    family: str | None
    base_widths: tuple[int, ...]
    depths: tuple[int, ...]
    folder: Path
    dataset: Dataset
    train_samples: Split
    progress: Progress
    section: TeacherSection
    training: TrainingSection
    label: str
    make: Callable[[], nn.Module]
    derived_epochs: int = 0

    def build(self, architecture: Architecture) -> nn.Module:
        """A student of that architecture with fresh weights, on the CPU; family `pruned` is cut from a new teacher."""
        return build_network(architecture, self.make)

    @cached_property
    def answers(self) -> Tensor:
        """Logits of every training sample in every view: float16 (views, N, classes), made on first use."""
        return cached_answers(
            self.folder / "logits.safetensors",
            self.network,
            self.train_samples,
            self.dataset.augmentation,
            self.dataset.task,
            on_view=lambda done, count: self.progress("teacher answers", done, count),
        )

    def channel_groups(
        self, criterion: str, *, seed: int, kept: Kept | None = None, heads: bool = False
    ) -> tuple[ChannelGroup, ...]:
        """The ranked channel groups; each criterion (and each seed of the random one) is computed once.

        Of the teacher without the blocks that are not `kept`, where these are given; with `heads` those of attention
        are ranked by their heads' own importance.
        """
        key = (criterion, seed if criterion == "random" else 0, kept, heads)
        if key not in self._ranked:
            network, batches = self.shortened(kept), gradient_batches(self.train_samples)
            shape = self.dataset.input_shape
            groups = rank_channels(network, shape, criterion=criterion, seed=key[1], batches=batches)
            self._ranked[key] = rank_heads(groups, network, shape, batches) if heads else groups
        return self._ranked[key]

    @property
    def heads(self) -> int | None:
        """Heads of each attention; None for a teacher without attention and for a user's own module."""
        return None if self.family is None else family_named(self.family).heads(self.section.settings)

    def shortened(self, kept: Kept | None) -> nn.Module:
        """The network with its `kept` blocks alone; itself where None."""
        return self.network if kept is None else without_blocks(self.network, self._known_family, kept)

    def kept_blocks(self, depths: tuple[int, ...], kept: str) -> Kept | None:
        """Which blocks a student of its family with these depths stands for; None where it has no fewer of them."""
        if len(depths) != len(self.depths) or all(map(operator.ge, depths, self.depths)):
            return None
        importance = self._block_importance if kept == "importance" else ()
        return choose_blocks(
            removable_blocks(self.network, self._known_family), depths, kept=kept, importance=importance
        )

    @cached_property
    def _block_importance(self) -> tuple[tuple[float, ...], ...]:
        return block_importance(self.network, self._known_family, gradient_batches(self.train_samples))

    @property
    def _known_family(self) -> AnyFamily:
        if self.family is None:
            raise RequestError(f"kept_blocks needs a teacher of a known family, but {self.label} has teacher.factory")
        return family_named(self.family)

    def sensitivities(self, bits: int) -> tuple[Sensitivity, ...]:
        """What each layer's weights at so few bits do to the answers, measured once on training samples."""
        if bits not in self._sensitivities:
            samples = self.train_samples.inputs["input"][:SENSITIVITY_SAMPLES]
            self._sensitivities[bits] = layer_sensitivities(self.network, samples, bits=bits)
        return self._sensitivities[bits]

    @cached_property
    def _sensitivities(self) -> dict[int, tuple[Sensitivity, ...]]:
        return {}

    @cached_property
    def derived(self) -> dict[str, Teacher]:
        """Teachers that were made from this one, by what they are."""
        return {}

    @cached_property
    def _ranked(self) -> dict[tuple[str, int, Kept | None, bool], tuple[ChannelGroup, ...]]:
        return {}


def gradient_batches(samples: Split) -> tuple[tuple[Tensor, Tensor], ...]:
    """The first training samples and labels, in the batches on which `taylor` takes gradients."""
    count = GRADIENT_BATCHES * GRADIENT_BATCH
    inputs = torch.split(samples.inputs["input"][:count], GRADIENT_BATCH)
    labels = torch.split(samples.targets["label"][:count], GRADIENT_BATCH)
    return tuple(zip(inputs, labels, strict=True))


def teacher_architecture(section: TeacherSection, dataset: Dataset, label: str = "") -> Architecture:
    """The architecture of a teacher that is one of our families."""
    family = family_named(section.family, where=f"{label}: teacher.family")
    depths, base = section.depths or family.base_depths, section.widths or family.base_widths
    if len(base) != len(depths):
        raise RequestError(
            f"{label}: teacher.depths must have one entry per stage of {section.family} ({len(base)}), "
            f"but got depths={depths}; give widths too for another number of stages"
        )
    try:
        layers = family.layers(depths, base, section.settings)
        return family.complete(
            Architecture(
                family=section.family,
                input_shape=dataset.input_shape,
                classes=dataset.classes,
                depths=depths,
                widths=tuple(Width(layer=layer, asked=base, channels=base) for layer, base in layers),
                mean=dataset.mean,
                std=dataset.std,
                settings=section.settings,
            )
        )
    except RequestError as error:
        raise RequestError(f"{label}: teacher: {error}") from error


def obtain_teacher(
    section: TeacherSection,
    training: TrainingSection,
    dataset: Dataset,
    *,
    folder: Path,
    label: str,
    device: torch.device,
    progress: Progress,
) -> Teacher:
    """The study's teacher. One that was trained before, from the same settings and data, is not trained again."""
    samples = dataset.train.to(device)
    if section.factory is not None and section.weights is not None:
        network = load_own_teacher(
            section.factory,
            section.weights,
            folder=folder,
            task=dataset.task,
            batch=dataset.train.first(2).inputs,
            label=label,
            features=section.features,
        )
        made_by: dict[str, object] = {"factory": section.factory, "weights": _hash(network.state_dict())}
        family: str | None = None
        base: tuple[int, ...] = ()
        depths: tuple[int, ...] = ()
    else:
        architecture = teacher_architecture(section, dataset, label)
        made_by = {
            "teacher": section.model_dump(
                mode="json", exclude={"features"}
            ),  # a module of the user's own alone has them
            "batch_size": training.batch_size,
            "weight_decay": training.weight_decay,
            "torch": torch.__version__,
        }
        family, depths = section.family, architecture.depths
        base = section.widths or family_named(section.family).base_widths
    made_by["data"] = dataset.fingerprint
    fingerprint = hashlib.sha256(json.dumps(made_by, sort_keys=True).encode()).hexdigest()[:16]
    store = cache_folder() / "teachers" / fingerprint
    if family is not None:
        network = kept_or_trained(
            architecture,
            store,
            checkpoint=1.0,
            objective=lambda: teacher_objective(section, dataset.task),
            training=training_of(section, training),
            samples=samples,
            augmentation=dataset.augmentation,
            label=label,
            on_epoch=lambda done, count: progress("teacher", done, count),
        )
    write_json(store / "teacher.json", {"fingerprint": fingerprint, "made_by": made_by})
    return Teacher(
        network=network.to(device).eval(),
        fingerprint=fingerprint,
        family=family,
        base_widths=base,
        depths=depths,
        folder=store,
        dataset=dataset,
        train_samples=samples,
        progress=progress,
        section=section,
        training=training,
        label=label,
        make=teacher_maker(section, dataset, folder=folder, label=label),
    )


def teacher_maker(section: TeacherSection, dataset: Dataset, *, folder: Path, label: str) -> Callable[[], nn.Module]:
    """What builds the teacher's module without its trained weights."""
    factory = section.factory
    if factory is not None:
        return lambda: build_own_module(factory, folder=folder, label=label)
    return lambda: build_student(teacher_architecture(section, dataset, label))


def teacher_objective(section: TeacherSection, task: Task) -> Objective:
    """Return the task's loss, with `bn_sparsity` penalised by the scales of batch normalisation."""
    objective = LossObjective(TrainingLoss(task, TASK_LOSS))
    return PenalisedObjective(objective, section.bn_sparsity) if section.bn_sparsity > 0 else objective


def training_of(section: TeacherSection, training: TrainingSection) -> Training:
    """The numbers of a teacher's training."""
    return Training(
        epochs=section.epochs,
        batch_size=training.batch_size,
        learning_rate=section.learning_rate,
        weight_decay=training.weight_decay,
        seed=section.seed,
    )


def _hash(state: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode())
        digest.update(state[name].detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
