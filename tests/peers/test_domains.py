from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from nas_compress.config.search_space import load_space
from nas_compress.config.shipped import shipped_folder
from nas_compress.config.suggest import RandomWalk

PEERS = Path(__file__).parents[2] / "benchmarks" / "peers"


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(PEERS))
    for name in ("domains", "finds"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def test_flat_domains_of_a_conditional_space_give_its_candidates(peers: None) -> None:
    from domains import candidate_of, domains_of

    space = load_space("cnn", folder=Path(), shipped=shipped_folder("search_spaces"), where="test")
    domains = domains_of(space.suggest)

    assert domains["depth_1"] == range(1, 3)
    assert list(domains["soft_percent"]) == [30, 60, 90]  # asked for in one branch alone
    assert domains["width_multiplier"] == (0.25, 0.5, 0.75, 1.0)
    walk = RandomWalk(Random(0))
    candidate = space.suggest(walk)
    spare = {name: list(domain)[-1] for name, domain in domains.items()}
    assert candidate_of(space.suggest, {**spare, **walk.params}) == candidate
    with pytest.raises(ValueError, match="family"):
        candidate_of(space.suggest, {**spare, "family": "alexnet"})


def test_what_was_found_is_read_in_the_order_of_time(peers: None, tmp_path: Path) -> None:
    from finds import add_find, read_finds

    add_find(tmp_path, tmp_path / "b.onnx", seconds=20.0, wall_seconds=30.0)
    add_find(tmp_path, tmp_path / "models" / "a.onnx", seconds=3.5, wall_seconds=4.0)

    assert read_finds(tmp_path) == [(3.5, tmp_path / "models" / "a.onnx"), (20.0, tmp_path / "b.onnx")]
    assert [seconds for seconds, _ in read_finds(tmp_path, "wall")] == [4.0, 30.0]
    assert read_finds(tmp_path / "models") == []


def test_the_clock_counts_children_that_run_and_that_ended(peers: None) -> None:
    from finds import Clock

    clock, work = Clock(), "import time\nwhile time.process_time() < 0.2: pass\n"
    subprocess.run([sys.executable, "-c", work], check=True)
    ended = clock.seconds
    assert ended > 0.15
    with subprocess.Popen(
        [sys.executable, "-c", work + "print(flush=True)\ninput()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert clock.seconds > ended + 0.15
        child.communicate(b"\n")
