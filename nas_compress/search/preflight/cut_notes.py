"""Notes about layers that stay whole, and about ratios that remove nothing."""

from __future__ import annotations

from collections.abc import Sequence

from nas_compress.pruning.unpruned_layers import in_one_line
from nas_compress.search.preflight.feasibility import Sized
from nas_compress.search.setup import StudyParts
from nas_compress.trial.shape import channel_step, is_pruned


def cut_notes(parts: StudyParts, sized: Sequence[Sized]) -> list[str]:
    """Return a line for the layers that no candidate cuts, and one for the ratios without effect."""
    found = []
    if any(is_pruned(item.candidate) for item in sized) and parts.whole_layers:
        found.append(f"these layers stay whole in every candidate: {in_one_line(parts.whole_layers)}")
    idle = [item for item in sized if item.removes_nothing]
    if idle:
        ratios = ", ".join(f"{ratio:g}" for ratio in sorted({item.candidate.pruning.ratio for item in idle}))
        steps = ", ".join(map(str, sorted({channel_step(item.candidate, parts.target) for item in idle})))
        found.append(
            f"pruning_ratio {ratios} removes nothing in {len(idle)} of {len(sized)} draws, which then equal candidates "
            f"of ratio 0: widths are rounded to multiples of {steps}; use a smaller round_to or a larger ratio"
        )
    return found
