"""Hand-made recordings: which blocks count, what comes out, when the fast level moves."""

import pytest

from nas_compress.devices.onnxruntime_cpu.latency_from_blocks import (
    GATE,
    MISS_EVERY_S,
    RELEARN_AFTER,
    Block,
    FastLevel,
    accepted,
    after_measurement,
    lowered,
    references,
    robust_minimum,
    settle,
)

LEVEL = FastLevel(fast_ms=1.0)


def blocks(*rows: tuple[float, float, float]) -> list[Block]:
    return [Block(before_ms=before, value_ms=value, after_ms=after) for before, value, after in rows]


def steady(reference: float, value: float, count: int) -> list[Block]:
    return blocks(*[(reference, value, reference)] * count)


def test_a_block_counts_only_if_both_brackets_are_fast() -> None:
    recorded = blocks((1.0, 1, 1.0), (1.0, 2, 1.06), (1.06, 3, 1.0), (GATE, 4, GATE), (2.0, 5, 2.0))
    assert [block.value_ms for block in accepted(recorded, LEVEL)] == [1, 4]


def test_a_slow_burst_does_not_move_the_latency() -> None:
    quiet = steady(1.0, 3.0, 12)
    burst = blocks((1.0, 5.9, 1.9), *[(1.9, 6.0, 1.9)] * 30, (1.9, 6.1, 1.0))
    latency = settle(quiet[:6] + burst + quiet[6:], LEVEL, blocks=12)
    assert latency == settle(quiet, LEVEL, blocks=12)
    assert (latency.latency_ms, latency.spread, latency.blocks, latency.noisy) == (3.0, 0.0, 12, False)


def test_median_and_spread_by_hand() -> None:
    recorded = blocks(*[(1.0, value, 1.0) for value in (5.0, 1.0, 4.0, 2.0, 3.0)])
    latency = settle(recorded, LEVEL, blocks=5)
    assert latency.latency_ms == 3.0
    assert latency.spread == pytest.approx((4 - 2) / 3)
    assert latency.reference_ms == 1.0


def test_one_block_too_few_is_noisy_and_rests_on_the_accepted_ones() -> None:
    latency = settle(steady(1.0, 3.0, 9) + steady(2.0, 6.0, 50), LEVEL, blocks=10)
    assert (latency.latency_ms, latency.blocks, latency.noisy) == (3.0, 9, True)


def test_with_hardly_any_accepted_block_the_best_state_stands_in() -> None:
    best = blocks(*[(1.2 + step / 100, 4.0 + step, 1.2) for step in range(5)])
    latency = settle(steady(2.0, 9.0, 40) + best, LEVEL, blocks=10)
    assert (latency.blocks, latency.noisy) == (5, True)
    assert latency.latency_ms == pytest.approx(6.0 / 1.21)  # (1.22 + 1.2) / 2 beside the median block


def test_a_block_of_the_slow_state_is_brought_to_the_fast_level() -> None:
    assert Block(before_ms=1.5, value_ms=6.0, after_ms=2.5).at(1.0).value_ms == 3.0
    assert settle(steady(2.0, 6.0, 40), LEVEL, blocks=10).latency_ms == 3.0


def test_a_very_slow_net_gives_its_only_block() -> None:
    latency = settle(steady(2.0, 5000.0, 1), LEVEL, blocks=20)
    assert (latency.latency_ms, latency.spread, latency.blocks, latency.noisy) == (2500.0, 0.0, 1, True)


def test_neighbouring_blocks_share_a_reference() -> None:
    assert references(blocks((1, 9, 2), (2, 9, 3))) == [1, 2, 3]
    assert references([]) == []


def test_the_robust_minimum_ignores_two_stray_values() -> None:
    assert robust_minimum([5.0, 0.1, 4.0, 0.2, 3.0]) == 3.0
    assert robust_minimum([2.0, 1.0]) == 2.0
    with pytest.raises(ValueError, match="at least one"):
        robust_minimum([])


def test_a_lower_level_is_taken_at_once_but_not_from_one_stray_value() -> None:
    assert lowered(LEVEL, steady(0.8, 1.0, 5)).fast_ms == 0.8
    assert lowered(LEVEL, blocks((1.0, 1, 0.5), (0.5, 1, 1.0), (1.0, 1, 1.0))).fast_ms == 1.0
    assert lowered(LEVEL, steady(0.8, 1.0, 1)) == LEVEL


def test_a_lower_level_rejects_what_an_outdated_one_would_accept() -> None:
    recorded = steady(1.0, 2.0, 20) + steady(0.7, 1.4, 20)
    level = after_measurement(LEVEL, recorded, now=0)
    assert level.fast_ms == 0.7
    assert settle(recorded, level, blocks=20).latency_ms == 1.4


def test_a_level_out_of_reach_is_learned_anew_after_many_misses_far_apart() -> None:
    level, slow = LEVEL, steady(1.5, 3.0, 40)
    for count in range(1, RELEARN_AFTER):
        level = after_measurement(level, slow, now=1e9 + count * MISS_EVERY_S)
        assert (level.fast_ms, level.misses) == (1.0, count)
        assert after_measurement(level, slow, now=1e9 + count * MISS_EVERY_S + 1) == level
    level = after_measurement(level, slow, now=2e9)
    assert level == FastLevel(fast_ms=1.5)
    assert not settle(slow, level, blocks=20).noisy


def test_a_clock_that_was_set_back_does_not_stop_the_counting_of_misses() -> None:
    level = FastLevel(fast_ms=1.0, misses=1, missed_at=4e9)
    after = after_measurement(level, steady(1.5, 3.0, 40), now=1e9)
    assert after == FastLevel(fast_ms=1.0, misses=2, missed_at=1e9)


def test_reaching_the_level_again_forgets_the_misses() -> None:
    level = FastLevel(fast_ms=1.0, misses=2, missed_at=5.0)
    assert after_measurement(level, steady(1.5, 3.0, 40) + steady(1.0, 2.0, 5), now=9.0) == LEVEL


def test_an_unsteady_slow_machine_is_no_miss() -> None:
    unsteady = blocks(*[(1.5 + step / 10, 3.0, 1.6 + step / 10) for step in range(20)])
    level = FastLevel(fast_ms=1.0, misses=2)
    assert after_measurement(level, unsteady, now=1e9) == level


def test_other_statistics_are_those_of_the_single_runs() -> None:
    runs = (2.0, 2.0, 2.0, 2.0, 12.0)
    recorded = [Block(before_ms=1.0, value_ms=2.0, after_ms=1.0, runs_ms=runs) for _ in range(12)]
    found = {name: settle(recorded, LEVEL, blocks=12, percentile=name) for name in ("median", "mean", "p90", "p95")}
    assert {name: each.latency_ms for name, each in found.items()} == {"median": 2, "mean": 4, "p90": 12, "p95": 12}
    assert len({(each.spread, each.blocks, each.noisy) for each in found.values()}) == 1


def test_runs_of_a_slow_state_are_brought_to_the_fast_level_too() -> None:
    recorded = [Block(before_ms=2.0, value_ms=6.0, after_ms=2.0, runs_ms=(6.0, 10.0)) for _ in range(2)]
    assert settle(recorded, LEVEL, blocks=2, percentile="mean").latency_ms == 4.0
