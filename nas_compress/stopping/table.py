"""Table of stopping rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nas_compress.errors import RequestError, require_known
from nas_compress.stopping.behind import Behind
from nas_compress.stopping.dominated import Dominated
from nas_compress.stopping.moasha import MoAsha, geometric_rungs
from nas_compress.stopping.rules import NoRule, Rule

RULES: Mapping[str, str] = {
    "none": "every trial is trained to its end",
    "moasha": "at each rung only the best 1 / eta continue, by non-dominated fronts and an epsilon-net",
    "behind": "stop at a rung if another trial was nowhere worse and somewhere better",
    "dominated": "stop if finished trials dominate the trial's costs and an optimistic forecast",
}


def make_rule(
    name: str, *, steps: int, rungs: Sequence[int] | None = None, eta: int = 3, risk: float = 0.05, where: str = ""
) -> Rule:
    """Make the rule `name` for trainings of `steps` steps.

    rungs: steps at which moasha and behind compare; geometric if None. If training is too short for a geometric rung,
    no trial is stopped. eta: of moasha. risk: of dominated. where: place of the request, for error texts.
    """
    require_known("a stopping rule", name, RULES, where)
    if steps < 1:
        raise RequestError(f"steps >= 1 must hold, but got steps={steps}")
    if name == "dominated":
        return Dominated(risk=risk)
    chosen = geometric_rungs(steps, eta=eta) if rungs is None else tuple(rungs)
    if name == "none" or (rungs is None and not chosen):
        return NoRule()
    if chosen and not (chosen[0] >= 1 and chosen[-1] < steps):
        raise RequestError(f"1 <= rungs < {steps} (the end of training) must hold, but got rungs={list(chosen)}")
    fractions = tuple(rung / steps for rung in chosen)
    return Behind(rungs=fractions) if name == "behind" else MoAsha(rungs=fractions, eta=eta)
