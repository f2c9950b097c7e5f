"""Rules about candidates with pictures or a vocabulary of another size than the teacher's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn

from nas_compress.data.dataset import Dataset
from nas_compress.errors import RequestError, describe
from nas_compress.losses.table import TERMS
from nas_compress.losses.term_kinds import FeatureTerm
from nas_compress.models.shapes_only import shapes_only
from nas_compress.teacher.pretrained.kept_tokens import kept_rows
from nas_compress.values.architecture import Architecture
from nas_compress.values.candidate import PRUNED, Candidate


def require_picture_size(
    candidate: Candidate,
    architecture: Architecture,
    dataset: Dataset,
    *,
    own_network: Callable[[], nn.Module],
    build: Callable[[Architecture], nn.Module],
) -> None:
    """Require networks that take pictures of the candidate's size; RequestError with the way out.

    architecture: of the candidate. dataset: of the teacher's size. own_network: builds the user's own teacher.
    build: builds a network of an architecture.
    """
    size = f"image_size={candidate.image_size}"
    if candidate.vocabulary_size is not None:
        _require_own_vocabulary(candidate, dataset)
        return
    if candidate.teaching.scheme == "joint":
        raise RequestError(f"scheme='joint' trains the teacher on the student's batches, but got {size}; leave it out")
    if candidate.shape.family == PRUNED:
        try:
            with torch.no_grad():
                own_network().eval()(*dataset.at(candidate.data_size).example.values())
        except Exception as error:
            rule = f"family {PRUNED!r} needs a network of the teacher that takes pictures of each data.image_size"
            raise RequestError(f"{rule}, but with {size} it raised {describe(error)}") from error
    elif candidate.pruning.init == "inherit":
        whole = replace(architecture, signature=dataset.task.signature)
        with shapes_only():
            own, inherited = (build(each).state_dict() for each in (architecture, whole))
        differs = next((name for name, values in own.items() if inherited[name].shape != values.shape), None)
        if differs is not None:
            rule = "init='inherit' needs weights of the teacher's shapes"
            raise RequestError(f"{rule}, but that of {differs} depends on {size}; give the teacher's size in the space")


def _require_own_vocabulary(candidate: Candidate, dataset: Dataset) -> None:
    """Refuse all that reads layers of the teacher, or runs it on the word pieces of another vocabulary.

    Embeddings are inherited if the teacher knows all word pieces of the candidate.
    """
    inherits = candidate.pruning.init == "inherit"
    features = [term.name for term in candidate.losses if isinstance(TERMS[term.name], FeatureTerm)]
    wanted = (
        f"loss {features[0]!r}"
        if features
        else "init='inherit'"
        if inherits and not _knows_pieces(candidate, dataset)
        else f"scheme={candidate.teaching.scheme!r}"
        if candidate.teaching.scheme is not None
        else f"family={PRUNED!r}"
        if candidate.shape.family == PRUNED
        else ""
    )
    if wanted:
        rule = f"{wanted} needs the teacher's vocabulary"
        raise RequestError(
            f"{rule}, but got vocabulary_size={candidate.vocabulary_size}; use losses on logits, or no vocabulary_size"
        )


def _knows_pieces(candidate: Candidate, dataset: Dataset) -> bool:
    few = dataset.at(candidate.data_size).task.signature
    return bool(kept_rows(few, dataset.task.signature))
