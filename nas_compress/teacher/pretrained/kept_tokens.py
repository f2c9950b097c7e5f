"""Embeddings of the word pieces that a student keeps of its teacher's vocabulary."""

from __future__ import annotations

from torch import nn

from nas_compress.models.token_padding import PADDING
from nas_compress.values.signature import Signature
from nas_compress.values.text.kept_pieces import rows_of


def kept_rows(own: Signature, theirs: Signature) -> tuple[int, ...] | None:
    """Return the teacher's id of each id of a student; None if the teacher does not know one of its word pieces.

    Networks without a vocabulary of texts have the same ids: the result is empty.
    """
    few, all_ = own.inputs[0].pieces, theirs.inputs[0].pieces
    if few is None or all_ is None:
        return ()
    return rows_of(few, all_)


def keep_tokens_(network: nn.Module, own: Signature, theirs: Signature) -> None:
    """Keep the rows of the student's word pieces in the embeddings of a teacher, in place.

    own, theirs: signatures of the student and of the teacher, which knows all word pieces of the student.
    """
    rows = kept_rows(own, theirs)
    if not rows:
        return
    for module in network.modules():
        if isinstance(module, nn.Embedding) and module.padding_idx == PADDING:
            module.weight = nn.Parameter(module.weight.detach()[list(rows)].clone())
            module.num_embeddings = len(rows)
