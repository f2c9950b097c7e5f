"""The teacher that a study names: a user's module, a library's network, or a file of a runtime."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nas_compress.callbacks import Notice, no_notice
from nas_compress.config.teacher_section import TeacherSection
from nas_compress.errors import RequestError
from nas_compress.models.detached_copy import detached_copy
from nas_compress.models.networks.encoder import TokenEncoder
from nas_compress.tasks.batch import Batch, named_outputs, rows
from nas_compress.tasks.task import Task
from nas_compress.teacher.chosen_output import choose_output
from nas_compress.teacher.libraries import (
    RawPictures,
    hugging_face_description,
    hugging_face_folder,
    hugging_face_module,
    hugging_face_names,
    hugging_face_weights,
    timm_module,
)
from nas_compress.teacher.pretrained.bert_classifier import bert_classifier, is_bert_of_tokens, load_classifier_
from nas_compress.teacher.runtime_network import RuntimeNetwork, is_runtime_file, open_runtime_network
from nas_compress.teacher.user_module import (
    build_own_module,
    check_features,
    check_outputs,
    load_weights_,
    plain_module,
    run_on_samples,
)
from nas_compress.teacher.weights_file import find_path

SAME = 1e-3
"""Largest difference of the logits of the same sample in two passes, relative to the largest logit."""


@dataclass(frozen=True, kw_only=True, eq=False)
class GivenTeacher:
    """A study's own teacher, loaded and checked once. The fields are the arguments of `load_given_teacher`."""

    section: TeacherSection
    folder: Path
    task: Task
    batch: Batch
    label: str

    def copy(self, notice: Notice = no_notice) -> nn.Module:
        """Return a copy of the network; a file of a runtime, which nothing changes, is returned itself.

        notice: see `load_given_teacher`, whose errors are raised.
        """
        network, notes = self._loaded
        for note in notes:
            notice(note)
        return network if isinstance(network, RuntimeNetwork) else detached_copy(network)

    @cached_property
    def _loaded(self) -> tuple[nn.Module, tuple[str, ...]]:
        notes: list[str] = []
        network = load_given_teacher(
            self.section, folder=self.folder, task=self.task, batch=self.batch, label=self.label, notice=notes.append
        )
        return network, tuple(notes)


def build_given_module(section: TeacherSection, *, folder: Path, task: Task, batch: Batch, label: str) -> nn.Module:
    """Build the module of a study's teacher in float32 without its weights; RequestError if it has none.

    folder: place of the user's code and files. batch: samples for lazy layers and sizes. label: of the study file.
    """
    if section.factory is not None:
        module = build_own_module(section.factory, folder=folder, batch=batch, label=label)
    elif section.timm is not None:
        module = plain_module(timm_module(section.timm, task, batch, label), batch)
    elif section.hugging_face is not None:
        place = hugging_face_folder(folder, section.hugging_face, label)
        if is_bert_of_tokens(place, task):
            return bert_classifier(place, task, f"{label}: teacher.hugging_face")
        module = plain_module(hugging_face_module(place, batch, label), batch)
        return choose_output(module, "logits" if section.output is None else section.output, inputs=len(batch))
    else:
        raise RequestError(
            f"{label}: this needs a teacher with layers, but teacher.{section.source} gives answers only"
        )
    return choose_output(module, section.output, inputs=len(batch))


def load_given_teacher(
    section: TeacherSection,
    *,
    folder: Path,
    task: Task,
    batch: Batch,
    label: str,
    notice: Notice = no_notice,
) -> nn.Module:
    """Load a study's own teacher with its weights, and check its outputs for a few raw samples.

    Weights of other float types become float32. notice: receives a line if the weights have another key or prefix than
    the module. Every mistake is a RequestError of one line. The other arguments are those of `build_given_module`.
    """
    paths = _weights(section, folder, label)
    named = section.factory or section.timm or section.hugging_face
    if is_runtime_file(paths[0]):
        if named is not None:
            raise RequestError(
                f"{label}: teacher.weights must hold a state dict for teacher.{section.source}, but {paths[0].name} is "
                "a network of its own; give teacher.weights alone"
            )
        return _runtime_network(paths[0], section, task, batch, label)
    if named is None:
        raise RequestError(
            f"{label}: teacher.weights alone must be an ONNX or TorchScript file, but got {paths[0].name}; give "
            "teacher.factory, timm or hugging_face too"
        )
    module = build_given_module(section, folder=folder, task=task, batch=batch, label=label)
    if isinstance(module, TokenEncoder):
        load_classifier_(module, paths[0].parent, label, pieces=task.signature.inputs[0].pieces)
    else:
        inner = module.network if isinstance(module, RawPictures) else module
        names = None if section.hugging_face is None else partial(hugging_face_names, inner)
        note = load_weights_(inner, paths, section.weights_key, label, names)
        if note:
            notice(f"{label}: {note}")
    module.eval()
    check_outputs(run_on_samples(module, batch, label), task, batch, label)
    check_features(module, section.features, batch, task, label)
    return module


def _weights(section: TeacherSection, folder: Path, label: str) -> list[Path]:
    if section.weights is not None:
        return [find_path(folder, section.weights, f"{label}: teacher.weights")]
    return hugging_face_weights(hugging_face_folder(folder, str(section.hugging_face), label), label)


def _runtime_network(path: Path, section: TeacherSection, task: Task, batch: Batch, label: str) -> RuntimeNetwork:
    network = open_runtime_network(path, task.signature, section.output, label)
    network.eval()
    returned = run_on_samples(network, batch, label)
    check_outputs(returned, task, batch, label)
    names = task.signature.output_names
    together = named_outputs(returned, names)
    alone = named_outputs(run_on_samples(network, rows(batch, 0, 1), label), names)
    for name, value in alone.items():
        _require_same(value, together[name][:1], path.name, label)
    return network


def _require_same(alone: Tensor, together: Tensor, name: str, label: str) -> None:
    """Refuse dropout that is left on, and operators with the size of one batch."""
    if not torch.allclose(alone, together, rtol=SAME, atol=SAME * float(together.abs().max())):
        raise RequestError(
            f"{label}: teacher.weights must answer a sample alike in every batch, but {name} does not; export it in "
            "eval mode and with a free batch size"
        )


def describe_given(section: TeacherSection, *, folder: Path, label: str) -> dict[str, Any]:
    """Return the keys and values that name the teacher, for its fingerprint; the arguments are those of building it."""
    keys = ("factory", "timm", "hugging_face", "output")
    values = {key: getattr(section, key) for key in keys if getattr(section, key) is not None}
    if section.hugging_face is not None:
        values["described_by"] = hugging_face_description(hugging_face_folder(folder, section.hugging_face, label))
    return values
