import itertools

import pytest

from nas_compress.training.schedule import learning_rate_at, planned_epochs


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 20, 1000])
@pytest.mark.parametrize("warmup", [0.0, 0.15, 0.5])
def test_it_rises_in_a_line_to_the_peak_and_falls_to_near_nothing(steps: int, warmup: float) -> None:
    rates = [learning_rate_at(step, steps=steps, peak=0.5, warmup=warmup) for step in range(steps)]
    top = rates.index(max(rates))
    rising = [after - before for before, after in itertools.pairwise(rates[: top + 1])]
    assert max(rates) == 0.5 and top == max(1, round(steps * warmup)) - 1
    assert all(rate > 0 for rate in rates)
    assert all(step == pytest.approx(rates[0]) for step in rising)
    assert rates[top:] == sorted(rates[top:], reverse=True)
    if steps >= 20:
        assert rates[-1] < 0.01 * 0.5


def test_the_fall_is_a_cosine_by_hand() -> None:
    # 10 steps of which 2 rise; the fifth after them stands at 4.5 / 8 of half a circle
    assert learning_rate_at(0, steps=10, peak=1.0, warmup=0.2) == 0.5
    assert learning_rate_at(1, steps=10, peak=1.0, warmup=0.2) == 1.0
    assert learning_rate_at(6, steps=10, peak=1.0, warmup=0.2) == pytest.approx(0.5 * (1 - 0.19509), abs=1e-5)


def test_the_rate_is_proportional_to_the_peak() -> None:
    for step in range(10):
        one, three = (learning_rate_at(step, steps=10, peak=peak) for peak in (1.0, 3.0))
        assert three == pytest.approx(3 * one)


@pytest.mark.parametrize(
    ("macs", "expected"),
    [
        (1000, 20),  # as large as the teacher
        (2000, 20),  # larger: never fewer epochs
        (900, 22),  # int(20 * 1000 / 900)
        (500, 40),
        (334, 59),  # int(20 * 1000 / 334)
        (333, 60),  # the cap
        (1, 60),
        (0, 60),
    ],
)
def test_scratch_b_spends_the_teachers_compute_up_to_the_cap(macs: int, expected: int) -> None:
    assert planned_epochs(epochs=20, budget="scratch_b", cap=3.0, macs=macs, teacher_macs=1000) == expected
    assert planned_epochs(epochs=20, budget="scratch_e", cap=3.0, macs=macs, teacher_macs=1000) == 20


def test_whole_ratios_give_whole_epochs() -> None:
    for percent in range(100, 300):
        assert planned_epochs(epochs=100, budget="scratch_b", cap=3.0, macs=100, teacher_macs=percent) == percent
