"""The teacher of a study: a trained network, its logits and its importance scores."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from torch import Tensor, nn

from nas_compress.callbacks import Notice, Progress
from nas_compress.config.schema import TrainingSection
from nas_compress.config.teacher_section import TeacherSection
from nas_compress.data.dataset import Dataset, Split
from nas_compress.errors import RequestError
from nas_compress.files import read_sealed_json
from nas_compress.models.families import family_named
from nas_compress.models.family import AnyFamily
from nas_compress.models.features import Observation
from nas_compress.pruning.channel_groups import ChannelGroup
from nas_compress.pruning.depth import Kept, block_importance, choose_blocks, removable_blocks, without_blocks
from nas_compress.pruning.head_importance import rank_heads
from nas_compress.pruning.importance_criteria import LossSamples, rank_channels
from nas_compress.pruning.pruned_family import build_network
from nas_compress.pruning.unpruned_layers import layers_left_whole
from nas_compress.pruning.value_check import WholeLayers
from nas_compress.quantization.sensitivity import Sensitivity, layer_sensitivities
from nas_compress.tasks.batch import split
from nas_compress.tasks.task import Task
from nas_compress.teacher import logits_cache
from nas_compress.teacher.finite_answers import OWN_REMEDY
from nas_compress.teacher.logits_cache import answers_bytes, cached_answers
from nas_compress.teacher.runtime_network import RuntimeNetwork
from nas_compress.teacher.store import ORIGIN, Start, describe_stored, keep_weights, weights_file
from nas_compress.teacher.tensor_file import digest_of_tensors
from nas_compress.training.live_answers import LiveAnswers
from nas_compress.values.architecture import Architecture

GRADIENT_BATCHES, GRADIENT_BATCH = 16, 32
"""Number of batches for gradients and losses of importance criteria, and samples per batch."""

SENSITIVITY_SAMPLES = 256


@dataclass(kw_only=True, eq=False)
class Teacher:
    """A trained network in eval mode on the study's device, with everything that students derive from it.

    family: None for a user's module, which has no base_widths and depths either.
    folder: store of the network and its logits.
    train_samples: the training split on the device.
    notice: receives a line about each damaged file of the cache, which is made again.
    make: builds the module with initial weights.
    find_whole: finds the layers of a user's module that keep all their channels; None for the teacher's own search.
    start: weights that its training starts from; None for fresh ones.
    derived_epochs: epochs of trainings that this process began or continued for teachers derived from it.
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
    notice: Notice
    section: TeacherSection
    training: TrainingSection
    label: str
    make: Callable[[], nn.Module]
    find_whole: Callable[[], Sequence[WholeLayers]] | None = None
    start: Start | None = None
    derived_epochs: int = 0

    def build(self, architecture: Architecture) -> nn.Module:
        """Build a student with initial weights on the CPU; family `pruned` is cut from a new module."""
        return build_network(architecture, self.make, self.dataset.example)

    @cached_property
    def answers(self) -> Tensor:
        """Logits of every training sample in every view, float16 (views, N, ..., C), minus the maximum of their row.

        They are computed on first use. RequestError if an answer is infinite or nan.
        """
        answers = cached_answers(
            self.folder / "logits.safetensors",
            self.network,
            self.train_samples,
            self.dataset.augmentation,
            self.dataset.task,
            identity={"teacher": self.fingerprint, "weights": self.weights_digest, "data": self.dataset.fingerprint},
            name=self.name,
            remedy=self.remedy,
            notice=self.notice,
            on_view=lambda done, count: self.progress("teacher answers", done, count),
        )
        return answers.relative

    @cached_property
    def answer_source(self) -> Tensor | LiveAnswers:
        """The stored answers, or the network itself if they would exceed MOST_BYTES; a notice then says so."""
        samples, augmentation, task = self.train_samples, self.dataset.augmentation, self.dataset.task
        size = answers_bytes(samples, augmentation, task)
        if size <= logits_cache.MOST_BYTES:
            return self.answers
        self.notice(
            f"The teacher's answers to {augmentation.count} views of {len(samples)} samples would take "
            f"{size / 2**30:.3g} GiB, more than {logits_cache.MOST_BYTES / 2**30:.3g} GiB. They are not stored: the "
            "teacher runs for each batch, and trials take longer. Fewer data.views avoid that."
        )
        return LiveAnswers([self.network], task)

    @cached_property
    def labelled_samples(self) -> Split:
        """The training samples with a label."""
        return self.train_samples.labelled(self.dataset.task)

    @property
    def name(self) -> str:
        """The teacher in error texts."""
        return f"{self.label}: teacher.{self.section.source}"

    @property
    def remedy(self) -> str:
        """Way out if answers are not finite."""
        return "use a lower teacher.learning_rate" if self.section.is_trained else OWN_REMEDY

    @cached_property
    def weights_digest(self) -> str:
        """SHA-256 of the weights, or of the file of an ONNX or TorchScript teacher."""
        if isinstance(self.network, RuntimeNetwork):
            return self.network.digest
        return digest_of_tensors(self.network.state_dict())

    def copy_to(self, folder: Path) -> None:
        """Write the weights of a trained teacher and its origin to a folder, unless whole copies are there."""
        if self.family is not None:
            keep_weights(self.network, folder / weights_file(), self.notice)
        describe_stored(folder, read_sealed_json(self.folder / ORIGIN), self.notice)

    def channel_groups(
        self, criterion: str, *, seed: int, kept: Kept | None = None, heads: bool = False
    ) -> tuple[ChannelGroup, ...]:
        """Return the ranked channel groups; each criterion (and each seed of the random one) is computed once.

        kept: blocks of the teacher to rank; None for all. heads: rank the groups of attention by head importance.
        """
        key = (criterion, seed if criterion == "random" else 0, kept, heads)
        if key not in self._ranked:
            network, example = self.shortened(kept), self.dataset.example
            samples = loss_samples(self.labelled_samples, self.dataset.task)
            groups = rank_channels(
                network, example, criterion=criterion, seed=key[1], samples=samples, whole=self._whole_names
            )
            self._ranked[key] = rank_heads(groups, network, example, samples) if heads else groups
        return self._ranked[key]

    @cached_property
    def whole_layers(self) -> tuple[WholeLayers, ...]:
        """Layers of a user's module that keep all their channels, found on first use; none of a family."""
        if self.family is not None:
            return ()
        if self.find_whole is not None:
            return tuple(self.find_whole())
        return layers_left_whole(self.network, self.dataset.example)

    @property
    def _whole_names(self) -> frozenset[str]:
        return frozenset(layer for group in self.whole_layers for layer in group.layers)

    @property
    def heads(self) -> int | None:
        """Heads of each attention; None for a teacher without attention and for a user's own module."""
        return None if self.family is None else family_named(self.family).heads(self.section.settings)

    def shortened(self, kept: Kept | None) -> nn.Module:
        """Return the network with its `kept` blocks only; the network itself if None."""
        return self.network if kept is None else without_blocks(self.network, self._known_family, kept)

    def kept_blocks(self, depths: tuple[int, ...], kept: str) -> Kept | None:
        """Return the blocks that correspond to a student's; None if it has at least as many, or no block can go."""
        if len(depths) != len(self.depths) or all(map(operator.ge, depths, self.depths)):
            return None
        if not self._known_family.has_removable_blocks:
            return None
        importance = self._block_importance if kept == "importance" else ()
        return choose_blocks(
            removable_blocks(self.network, self._known_family), depths, kept=kept, importance=importance
        )

    @cached_property
    def _block_importance(self) -> tuple[tuple[float, ...], ...]:
        return block_importance(
            self.network, self._known_family, loss_samples(self.labelled_samples, self.dataset.task)
        )

    @property
    def _known_family(self) -> AnyFamily:
        if self.family is None:
            raise RequestError(f"kept_blocks needs a teacher of a known family, but {self.label} has teacher.factory")
        return family_named(self.family)

    def sensitivities(self, bits: int) -> tuple[Sensitivity, ...]:
        """Return the sensitivity of each layer to `bits` bits, measured once on training samples."""
        if isinstance(self.network, RuntimeNetwork):
            return ()  # a file of a runtime has no layers to round
        if bits not in self._sensitivities:
            samples = self.train_samples.first(SENSITIVITY_SAMPLES).inputs
            self._sensitivities[bits] = layer_sensitivities(self.network, samples, self.dataset.task, bits=bits)
        return self._sensitivities[bits]

    @cached_property
    def _sensitivities(self) -> dict[int, tuple[Sensitivity, ...]]:
        return {}

    @cached_property
    def derived(self) -> dict[str, Teacher]:
        """Teachers derived from this one, by fingerprint."""
        return {}

    @cached_property
    def stored_features(self) -> dict[str, Callable[[Tensor, int], Observation]]:
        """Stored features by a key of their layers; see `teacher.features`."""
        return {}

    @cached_property
    def joined_answers(self) -> dict[str, Tensor]:
        """Answers that several networks gave together, by their kind."""
        return {}

    @cached_property
    def _ranked(self) -> dict[tuple[str, int, Kept | None, bool], tuple[ChannelGroup, ...]]:
        return {}


def loss_samples(samples: Split, task: Task, *, batches: int = GRADIENT_BATCHES) -> LossSamples:
    """Return the first training samples in batches, for gradients and losses of importance criteria."""
    few = samples.first(batches * GRADIENT_BATCH)
    pairs = zip(split(few.inputs, GRADIENT_BATCH), split(few.targets, GRADIENT_BATCH), strict=True)
    return LossSamples(task=task, batches=tuple(pairs))
