"""Whether budgets can be met, and the costs by which a space is judged before training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nas_compress.config.study_file import read_study
from nas_compress.errors import RequestError
from nas_compress.models.macs import count_macs
from nas_compress.search.preflight.budget_coverage import budget_shares
from nas_compress.search.preflight.feasibility import draw_candidates, extremes, refuse_out_of_reach, within_reach
from nas_compress.search.samplers.cost_lookup import CostLookup
from nas_compress.search.setup import StudyParts, gather
from nas_compress.trial.context import TrialContext
from nas_compress.trial.plan import candidate_rules
from nas_compress.values.candidate import Candidate
from nas_compress.values.metrics.table import Budget
from running import own_cache as own_cache
from running import write_study

ZEROS = '''"""A wide network full of zeros and a narrow one without, at one precision."""
from nas_compress.values.candidate import Candidate


def suggest(trial):
    """Propose one student."""
    zeros = trial.suggest_categorical("zeros", [0, 90])
    return Candidate(family="resnet", depths=(1, 1, 1), width_multiplier=1.0 if zeros else 0.5, round_to=4,
                     zero_pattern="one_shot" if zeros else "none", zero_fraction=zeros / 100)
'''
STRIDES = '''"""Wider networks that shrink the image more."""
from nas_compress.values.candidate import Candidate


def suggest(trial):
    """Propose one student."""
    stride = trial.suggest_categorical("stem_stride", [1, 2, 4])
    return Candidate(family="resnet", depths=(1, 1, 1), stem_stride=stride, width_multiplier=0.5 + stride / 20,
                     round_to=1)
'''
PRUNED = '''"""The teacher's own graph, cut, and stages of different bits."""
from nas_compress.values.candidate import Candidate, Quantization


def suggest(trial):
    """Propose one student."""
    if trial.suggest_categorical("cut", [True, False]):
        return Candidate(family="pruned", depths=(), pruning_ratio=0.5)
    return Candidate(family="resnet", depths=(1, 1, 1), weight_bits=8, activation_bits=8,
                     quantization=Quantization(method="lsq", stage_bits=(8, 2, 2)))
'''


def parts_of(folder: Path, *, space: str, budgets: str, extra: str = "") -> StudyParts:
    return gather(read_study(write_study(folder, space=space, extra=f"[budgets]\n{budgets}\n{extra}")))


@pytest.mark.parametrize(("form", "sure"), [("onnx", 0.9), ("compressed", 0.75)])
def test_a_budget_that_only_the_candidate_with_zeros_keeps_is_within_reach(
    form: str, sure: float, tmp_path: Path
) -> None:
    budgets = "size_bytes = { at_most = 1 }\nparameters = { at_most = 1 }"
    parts = parts_of(tmp_path, space=ZEROS, budgets=budgets, extra=f'[export]\nform = "{form}"\n')
    sized, _ = draw_candidates(parts)
    fewest = min(item.parameters for item in sized)
    assert sized[0].candidate.sparsity.fraction == 0.9 and sized[0].parameters > fewest
    size, parameters = within_reach(parts, sized)
    assert size.best < sized[1].weight_bytes == 4 * fewest, "without zeros a parameter has 4 bytes"
    assert parameters.best == parameters.least == fewest, "the network without zeros is the narrower one"
    for part, possible, met in ((1.0, True, True), (sure + 0.01, True, False), (sure - 0.01, False, False)):
        reach = replace(size, budget=Budget(name="size_bytes", limit=part * size.best))
        assert (reach.possible, reach.met) == (possible, met)
    with pytest.raises(RequestError, match=f"space has {size.best:.4g}; training may reduce it to {size.least:.4g}"):
        refuse_out_of_reach(parts, (size,))


def test_the_candidate_with_the_least_to_compute_is_among_the_smallest(tmp_path: Path) -> None:
    parts = parts_of(tmp_path, space=STRIDES, budgets="")
    sized, _ = draw_candidates(parts)
    assert [item.architecture.settings.stem_stride for item in sized] == [1, 2, 4], (
        "the wider, the less there is to compute"
    )
    macs = [count_macs(parts.build(item.architecture), parts.dataset.train.first(1).inputs) for item in sized]
    assert macs == sorted(macs, reverse=True)
    assert [item.architecture.settings.stem_stride for item in extremes(sized)] == [1, 4]


def test_parameters_and_macs_are_counted_on_the_network_of_any_family(tmp_path: Path) -> None:
    parts = parts_of(tmp_path, space=PRUNED, budgets="macs = { at_most = 1 }\nparameters = { at_most = 1 }")
    sized, _ = draw_candidates(parts)
    assert {item.candidate.shape.family for item in sized} == {"resnet", "pruned"}
    networks = [parts.build(item.architecture) for item in sized]
    counted = [sum(parameter.numel() for parameter in network.parameters()) for network in networks]
    assert [item.parameters for item in sized] == counted
    most = max(count_macs(network, parts.dataset.train.first(1).inputs) for network in networks)
    budgets = f"macs = {{ at_most = {most} }}\nparameters = {{ at_most = {min(counted)} }}"
    shares = budget_shares(parts_of(tmp_path, space=PRUNED, budgets=budgets), sized)
    kept = {share.budget.name: share.kept for share in shares}
    assert kept == {"macs": len(sized), "parameters": counted.count(min(counted))}


def test_a_look_tells_no_size_that_depends_on_the_weights(context: TrialContext, tmp_path: Path) -> None:
    budgets = "size_bytes = { at_most = 1 }\nparameters = { at_most = 1 }"
    spec, rules = parts_of(tmp_path, space=ZEROS, budgets=budgets).spec, candidate_rules(context, seed=0)
    look = CostLookup(spec=spec, context=replace(context, budgets=spec.budget_list), rules=rules)
    assert look.knows_something
    for pattern, fraction, count in (("none", 0.0, 2), ("one_shot", 0.5, 1)):
        known = look(Candidate(family="resnet", depths=(1, 1, 1), zero_pattern=pattern, zero_fraction=fraction))
        assert known is not None
        sure = dict(zip(look.spec.objectives, known.values, strict=True))
        assert (sure["accuracy"], sure["size_bytes"] is None) == (None, pattern == "one_shot")
        assert sure["latency_ms"] is not None and len(known.constraints) == count
    assert look(Candidate(family="resnet", depths=(1, 1))) is None, "a rule refuses it"
