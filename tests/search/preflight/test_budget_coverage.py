"""The share of a space that keeps a budget, against every point of a small space."""

from __future__ import annotations

from pathlib import Path

import pytest

from image_files import image_macs
from nas_compress.cli.check import _share
from nas_compress.config.study_file import read_study
from nas_compress.models.families import build_student
from nas_compress.search.preflight.budget_coverage import Share, budget_shares
from nas_compress.search.preflight.feasibility import draw_candidates
from nas_compress.search.setup import gather
from nas_compress.values.metrics.table import Budget
from running import quick_and_apart, write_study


def test_shares_are_those_of_all_eight_points(tmp_path: Path) -> None:
    with quick_and_apart():
        sized, _ = draw_candidates(gather(read_study(write_study(tmp_path / "first"))))
        assert len(sized) == 8
        macs = sorted(image_macs(build_student(item.architecture), (1, 8, 8)) for item in sized)
        weights = [item.weight_bytes for item in sized]
        extra = (
            f"[budgets]\nmacs = {{ at_most = {macs[2]} }}\nsize_bytes = {{ at_most = {weights[5]} }}\n"
            f"parameters = {{ at_most = {weights[1] / 4} }}\nlatency_ms = {{ at_most = 1000.0 }}\n"
        )
        parts = gather(read_study(write_study(tmp_path / "second", extra=extra)))
        shares = budget_shares(parts, sized)
    kept = {share.budget.name: (share.kept, share.counted) for share in shares}
    assert kept["macs"][1] == kept["size_bytes"][1] == kept["parameters"][1] == kept["latency_ms"][1] == 8
    assert kept["macs"][0] == sum(count <= macs[2] for count in macs)
    assert kept["size_bytes"][0] == sum(count <= weights[5] for count in weights)
    assert kept["parameters"][0] == sum(count <= weights[1] for count in weights)
    assert kept["latency_ms"][0] == 8
    assert next(share for share in shares if share.budget.name == "macs").fraction == pytest.approx(kept["macs"][0] / 8)


def test_few_candidates_leave_a_wide_interval_and_many_a_narrow_one() -> None:
    budget = Budget(name="latency_ms", limit=1.0)
    few, many = (Share(budget=budget, kept=count // 2, counted=count, how="timed") for count in (8, 400))
    assert few.interval == pytest.approx((0.215, 0.785), abs=1e-3), "Wilson's interval of 4 of 8, from its formula"
    assert many.interval == pytest.approx((0.451, 0.549), abs=1e-3)
    assert _share(few, 1e9) == "50%, likely 22% to 78% (4 of 8 candidates, timed)"
    assert _share(few, 8) == "50% (4 of 8 candidates, timed)"
