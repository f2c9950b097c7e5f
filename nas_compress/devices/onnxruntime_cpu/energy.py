"""Energy of runs by the counters of the processor (RAPL), as Linux shows them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from nas_compress.errors import RequestError
from nas_compress.values.device_settings import CPU_PROVIDER, ENERGY, DeviceSettings

POWERCAP = Path("/sys/class/powercap")
"""Folder of the counters under Linux, of Intel and AMD processors."""

WINDOW_S = 0.1
"""Seconds of runs between two readings: counters change once per millisecond."""

WINDOWS = 5
"""Number of windows; the figure is their median, which one interruption does not move."""

_WAY_OUT = f"leave {ENERGY} out of objectives, budgets and search.reward"


@dataclass(frozen=True, kw_only=True)
class Counter:
    """One counter of microjoules. file: with its value. range_uj: it starts again at 0 beyond this value."""

    file: Path
    range_uj: int

    def read(self) -> int:
        """Return the value in microjoules; RequestError if the file cannot be read."""
        return _number(self.file)

    def spent_uj(self, before: int, after: int) -> int:
        """Return the microjoules between two readings, with at most one new start in between.

        >>> Counter(file=Path(), range_uj=1000).spent_uj(900, 50)
        150
        """
        return after - before if after >= before else self.range_uj - before + after


def find_counters(settings: DeviceSettings, root: Path = POWERCAP) -> tuple[Counter, ...]:
    """Return the counters of all processors of this machine, and of its memory where it has one.

    `intel-rapl:0` is a processor, with the parts `intel-rapl:0:0` and so on, which it includes except for `dram`.

    settings: of the runs. root: folder of the counters.
    RequestError if there is none, if one cannot be read or does not move, or for another provider than the CPU.
    """
    if settings.providers != (CPU_PROVIDER,):
        raise RequestError(
            f"{ENERGY} counts the processor, so providers must be ['{CPU_PROVIDER}'], "
            f"but got {list(settings.providers)}; {_WAY_OUT}"
        )
    zones = sorted(path for path in root.glob("intel-rapl:*") if (path / "energy_uj").exists())
    counted = [path for path in zones if _counts(path)]
    if not counted:
        raise RequestError(
            f"{ENERGY} needs a machine with energy counters, but got none in {root} "
            f"(virtual machines and most ARM boards have none); {_WAY_OUT}"
        )
    found = tuple(Counter(file=path / "energy_uj", range_uj=_number(path / "max_energy_range_uj")) for path in counted)
    _require_movement(found)
    return found


def energy_mj(counters: Sequence[Counter], run: Callable[[], int], *, window_s: float = WINDOW_S) -> float:
    """Return the millijoules of one run: all that the machine spends during it, the idle part too.

    run: runs a file, and returns the number of runs. window_s: see WINDOW_S.
    RequestError if the counters do not move.
    """
    found = median(_window_mj(counters, run, window_s) for _ in range(WINDOWS))
    if not found > 0:
        raise _still(counters)
    return found


def _window_mj(counters: Sequence[Counter], run: Callable[[], int], window_s: float) -> float:
    before, count, end = [each.read() for each in counters], 0, time.perf_counter() + window_s
    while count == 0 or time.perf_counter() < end:
        count += run()
    return _spent_uj(counters, before) / 1e3 / count


def _spent_uj(counters: Sequence[Counter], before: Sequence[int]) -> int:
    return sum(each.spent_uj(value, each.read()) for each, value in zip(counters, before, strict=True))


def _require_movement(counters: Sequence[Counter]) -> None:
    """Raise RequestError if no counter moves within a window: some virtual machines show counters that never do."""
    before, end = [each.read() for each in counters], time.perf_counter() + WINDOW_S
    while _spent_uj(counters, before) == 0:
        if time.perf_counter() > end:
            raise _still(counters)


def _still(counters: Sequence[Counter]) -> RequestError:
    return RequestError(f"{ENERGY} needs counters that move, but {counters[0].file} does not; {_WAY_OUT}")


def _counts(zone: Path) -> bool:
    """True for a processor, and for the memory next to it."""
    try:
        name = (zone / "name").read_text(encoding="ascii").strip()
    except OSError:
        return False
    return name.startswith("package") or name == "dram"


def _number(file: Path) -> int:
    try:
        return int(file.read_text(encoding="ascii"))
    except PermissionError as error:
        readable = f"sudo chmod a+r {file.parent.parent}/intel-rapl:*/energy_uj"
        raise RequestError(
            f"{ENERGY} must read {file}, but only root may; run `{readable}` after each start of the machine, "
            f"or {_WAY_OUT}"
        ) from error
    except (OSError, ValueError) as error:
        raise RequestError(f"{ENERGY} must read a number in {file}, but got {error}; {_WAY_OUT}") from error
