"""Rules about candidates that may be tried."""

from __future__ import annotations

from nas_compress.errors import RequestError, require_known
from nas_compress.losses.table import TERMS, check_terms, needs_teacher
from nas_compress.models.families import FAMILIES, family_named
from nas_compress.pruning.depth import KEPT_BLOCKS
from nas_compress.pruning.importance import CRITERIA
from nas_compress.pruning.ranking import RANKINGS
from nas_compress.values.candidate import PRUNED, Candidate, Teaching


def check_candidate(candidate: Candidate) -> None:
    """Raise RequestError for names that the candidate uses and nobody knows, and for values that do not go together."""
    require_known("a family", candidate.family, [*FAMILIES, PRUNED])
    require_known("a pruning criterion", candidate.pruning_criterion, CRITERIA)
    require_known("a pruning ranking", candidate.pruning_ranking, RANKINGS)
    require_known("kept_blocks", candidate.kept_blocks, KEPT_BLOCKS)
    check_terms(candidate.losses)
    if candidate.family != PRUNED:
        _require_attention(candidate)
    if candidate.settings != candidate.settings.without_teacher() and not needs_teacher(candidate.losses):
        wanted = " and ".join(candidate.settings.from_teacher)
        names = ", ".join(term.name for term in candidate.losses)
        raise RequestError(f"{wanted} needs a loss that reads the teacher's answers, but got {names}")
    if candidate.teaching.teacher == "mutual" and all(TERMS[term.name].needs_teacher for term in candidate.losses):
        raise RequestError(
            "mutual learning needs a term on labels, which its networks cannot learn from each other, "
            f"but got {', '.join(term.name for term in candidate.losses)}"
        )
    if candidate.teaching.teacher == "apprentice" and not candidate.quantization.is_trained:
        raise RequestError(
            "teaching.teacher='apprentice' needs a student that learns under rounding "
            f"(quantization.method 'lsq' or 'ste'), but got method={candidate.quantization.method!r}"
        )
    if candidate.teaching != Teaching() and not needs_teacher(candidate.losses):
        raise RequestError(
            f"teaching needs a term on the teacher among the losses ({candidate.teaching.teacher!r} is asked for), "
            f"but got {', '.join(term.name for term in candidate.losses)}"
        )


def _require_attention(candidate: Candidate) -> None:
    if candidate.head_ratio > 0 and not family_named(candidate.family).has_attention:
        known = ", ".join(name for name, family in FAMILIES.items() if family.has_attention)
        raise RequestError(
            f"head_ratio needs a family with attention ({known}), but got head_ratio={candidate.head_ratio} "
            f"for family {candidate.family!r}"
        )
