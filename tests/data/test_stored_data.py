"""Data sets are read once into a store, which is checked, shared and continued after a stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from nas_compress.data.dataset import Dataset
from nas_compress.data.load_dataset import load_dataset
from nas_compress.data.store import build
from nas_compress.data.store.identity import digest_of_object
from nas_compress.data.torch_dataset import READ_TWICE, FactorySource, Origin
from nas_compress.errors import RequestError, RunError
from nas_compress.losses.table import TASK_LOSS
from nas_compress.losses.training_loss import TrainingLoss
from nas_compress.tasks.memory_map import MappedTensor
from nas_compress.training.loop import train
from nas_compress.training.objective import LossObjective

COUNTED = """
import os
from pathlib import Path
import numpy as np
import torch
from torch.utils.data import Dataset

class Counted(Dataset):
    def __init__(self, count, start):
        self.count, self.start = count, start
    def __len__(self):
        return self.count
    def __getitem__(self, index):
        with open("reads", "a") as file:
            file.write(".")
        ACT
        rng = np.random.default_rng(index + self.start)
        return torch.tensor(rng.integers(0, 255, (1, 4, 4), dtype=np.uint8)), index % 3

def load():
    return {"train": Counted(COUNT, 0), "test": Counted(60, 10000)}
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder and a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NAS_COMPRESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(build, "ALONE_S", 1e9)  # however slow this machine is
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("my_"):
            del sys.modules[name]


def write(count: int, act: str = "pass") -> None:
    Path("my_data.py").write_text(COUNTED.replace("COUNT", str(count)).replace("ACT", act))


def load(**choices: object) -> Dataset:
    return load_dataset(factory="my_data:load", folder=Path(), where="s: data.factory", **choices)  # type: ignore[arg-type]


def reads() -> int:
    count = len(Path("reads").read_text())
    Path("reads").unlink()
    return count


def inputs(data: Dataset) -> torch.Tensor:
    test = data.test.reveal(purpose="compare")
    return torch.cat([split.inputs["input"][:] for split in (data.train, data.validation, test)])


def test_samples_are_read_once() -> None:
    write(240)
    first = load()
    assert reads() == 300 + 2 * (2 * READ_TWICE + 1)
    again = load()
    assert reads() == 2 * 2 * READ_TWICE
    assert again.fingerprint == first.fingerprint and torch.equal(inputs(first), inputs(again))


def test_changed_code_is_another_data_set() -> None:
    write(240)
    first = load().fingerprint
    del sys.modules["my_data"]
    write(240, "index = index + 1")
    assert load().fingerprint != first


def test_the_identity_follows_the_content_and_not_the_place_in_memory() -> None:
    def held(brightness: float, pixels: list[int]) -> object:
        value = torch.utils.data.TensorDataset(torch.tensor(pixels))
        value.transform = lambda image: image * brightness  # type: ignore[attr-defined]
        return value

    digests = [digest_of_object(held(*each)) for each in ((0.5, [1, 2]), (0.5, [1, 2]), (0.7, [1, 2]), (0.5, [1, 3]))]
    assert digests[0] == digests[1] and len(set(digests)) == 3


def test_the_identity_does_not_depend_on_the_order_of_sets() -> None:
    def held(numbers: list[int], test: str) -> object:
        value = torch.utils.data.TensorDataset()
        value.known, value.test = set(numbers), eval(test)  # type: ignore[attr-defined]
        return value

    # the order of a set of words changes with each process; that of 0 and 8 changes with their order of insertion
    digests = [
        digest_of_object(held(*each)) for each in (([0, 8], "lambda x: x in {0, 8}"), ([8, 0], "lambda x: x in {8, 0}"))
    ]
    assert digests[0] == digests[1]
    assert digest_of_object(held([0, 9], "lambda x: x in {0, 8}")) != digests[0]
    assert digest_of_object(held([0, 8], "lambda x: x in {0, 9}")) != digests[0]


def test_the_identity_follows_the_parts_of_an_object_that_cannot_be_pickled() -> None:
    def held(pixels: list[int]) -> object:
        value = torch.utils.data.TensorDataset(torch.tensor(pixels))
        value.lock = threading.Lock()  # type: ignore[attr-defined]
        return torch.utils.data.Subset(value, [0])

    digests = [digest_of_object(held(each)) for each in ([1, 2], [1, 2], [1, 3])]
    assert digests[0] == digests[1] != digests[2]


def test_files_and_folders_that_a_data_set_names_are_part_of_its_identity(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    value = torch.utils.data.TensorDataset(torch.zeros(2))
    value.root = str(tmp_path / "pictures")  # type: ignore[attr-defined]
    (tmp_path / "pictures" / "nothing.png").symlink_to("nowhere")
    digests = [digest_of_object(value)]
    for number in range(5):
        (tmp_path / "pictures" / f"{number}.png").write_bytes(b"1")
        digests.append(digest_of_object(value))
    assert len(set(digests)) == 6


@pytest.mark.parametrize("name", ["samples", "targets", "store.json"])
def test_a_damaged_store_is_made_again_with_a_notice(name: str) -> None:
    write(240)
    first, lines = load(), []
    file = max(Path("cache").rglob(name), key=lambda path: path.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    again = load(notice=lines.append)
    assert again.fingerprint == first.fingerprint and torch.equal(inputs(first), inputs(again))
    assert len(lines) == 1 and "damaged" in lines[0] and "read again" in lines[0]


def test_reading_continues_after_a_stop() -> None:
    write(3000, "if index == 2500 and not Path('go').exists(): raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        load()
    Path("go").touch()
    assert reads() > 2500
    _require_continued()


@pytest.mark.slow
def test_reading_continues_after_a_kill() -> None:
    write(3000, "os.kill(os.getpid(), 9) if index == 2500 and not Path('go').exists() else None")
    code = (
        "from pathlib import Path\nfrom nas_compress.data.load_dataset import load_dataset\n"
        "from nas_compress.data.store import build\nbuild.ALONE_S = 1e9\n"
        "load_dataset(factory='my_data:load', folder=Path())"
    )
    found = subprocess.run([sys.executable, "-c", code])
    assert found.returncode == -signal.SIGKILL and reads() > 2500
    Path("go").touch()
    _require_continued()


def _require_continued() -> None:
    """Read the rest only: blocks have 1,024 samples, and two were finished."""
    seen: list[tuple[str, int, int]] = []
    data = load(progress=lambda *stage: seen.append(stage))
    assert reads() < 3000 - 2048 + 60 + 100
    assert seen[0] == ("data read: train", 2048, 3000) and seen[-1] == ("data read: test", 60, 60)
    images = inputs(data)[:3000]
    expected = [np.random.default_rng(index).integers(0, 255, (1, 4, 4), dtype=np.uint8) for index in (0, 2047, 2999)]
    assert all(any(np.array_equal(image, each) for image in images.numpy()) for each in expected)


@pytest.mark.slow
def test_several_processes_read_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    write(2100)
    alone = load()
    monkeypatch.setenv("NAS_COMPRESS_CACHE", str(Path("other").absolute()))
    monkeypatch.setattr(build, "ALONE_S", 0.0)
    monkeypatch.setattr(build, "WORTH_S", 0.0)
    together = load()
    assert together.fingerprint == alone.fingerprint and torch.equal(inputs(alone), inputs(together))


@pytest.mark.slow
def test_a_reading_process_that_is_killed_ends_the_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    write(2100, f"os.kill(os.getpid(), 9) if index == 2000 and os.getpid() != {os.getpid()} else None")
    monkeypatch.setattr(build, "ALONE_S", 0.0)
    monkeypatch.setattr(build, "WORTH_S", 0.0)
    monkeypatch.setattr(build, "_may_start_processes", lambda: True)
    with pytest.raises(RunError, match=r"ended by signal 9\. Run the same command to continue"):
        load()
    monkeypatch.setattr(build, "ALONE_S", 1e9)
    assert len(load().test) == 60


def test_a_function_with_other_data_at_each_call_is_refused() -> None:
    write(240, "index = index + load.calls * 100")
    Path("my_data.py").write_text(
        Path("my_data.py").read_text().replace("def load():", "def load():\n    load.calls += 1") + "\nload.calls = 0\n"
    )
    origin = Origin(factory="my_data:load", folder=Path(), split="train", where="s: data.factory")
    with pytest.raises(RequestError, match="must return the same data at each call, but train differs"):
        FactorySource(origin, "0").open()


def test_a_sample_that_does_not_fit_leaves_no_store() -> None:
    write(240, "if index == 100: return torch.zeros(1, 3, 3, dtype=torch.uint8), 0")
    with pytest.raises(RequestError, match=r"must have one shape, \(1, 4, 4\) as the first, but got \(1, 3, 3\) at"):
        load()
    assert [path.suffix for path in Path("cache/data/stores").iterdir()] == [".lock"]


SAMPLES = {
    "np.array([{}] * 3), 0": r"train\[0\] must be numbers, but got object",
    "torch.zeros(1, 0, 4), 0": r"train\[0\] must not be empty, but got a sample of shape \(1, 0, 4\)",
    "Image.new('P', (4, 4)), 0": r'of mode L or RGB, but got P; return picture\.convert\("RGB"\)',
}


@pytest.mark.parametrize("sample", SAMPLES)
def test_samples_that_no_network_takes_are_refused_at_once(sample: str) -> None:
    write(240, f"from PIL import Image; return {sample}")
    with pytest.raises(RequestError, match=SAMPLES[sample]):
        load()


def test_a_first_picture_without_grey_levels_does_not_hide_the_bytes_of_the_others() -> None:
    write(240, "return torch.full((1, 4, 4), (index % 7) / 255), index % 3")
    images = load().train.inputs["input"]
    assert images.dtype == torch.uint8 and sorted(images.unique().tolist()) == list(range(7))


def test_rows_of_a_table_in_steps_of_a_fifth_stay_floats() -> None:
    write(240, "return torch.tensor([index % 6 / 5, index % 3 / 5]), index % 3")
    rows = load().train.inputs["input"]
    assert rows.dtype == torch.float32 and rows.max() == 1.0


def test_a_damaged_store_is_removed_by_the_process_that_makes_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    write(240)
    load()
    for file in Path("cache").rglob("store.json"):
        file.write_text("damaged")

    class Taken(build.FileLock):
        def take(self, *, shared: bool = False) -> bool:
            assert self._path.with_suffix("").exists()
            return super().take(shared=shared)

    monkeypatch.setattr(build, "FileLock", Taken)
    assert len(load().train) == 204


def test_a_store_needs_room_on_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    write(240)
    free = 1000
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=free))
    with pytest.raises(
        RunError, match=r"The data need 0\.0 MB in .*stores, but 0\.0 MB are free\. Set NAS_COMPRESS_CACHE"
    ):
        load()
    free = 8000  # samples of train have 3,840 bytes
    assert len(load().train) == 204


def test_large_data_stay_on_disk_and_train_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    write(300)
    resident = load(shift=1)
    monkeypatch.setattr("nas_compress.data.array_conversion.RESIDENT", 100)
    mapped = load(shift=1)
    assert isinstance(mapped.train.inputs["input"], MappedTensor)
    assert torch.equal(inputs(resident), inputs(mapped))
    assert mapped.normalisation == resident.normalisation
    weights = [_trained(data) for data in (resident, mapped)]
    assert torch.equal(*weights)


def test_memory_maps_of_the_user_stay_memory_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(size=(300, 5)) + np.arange(300)[:, None] % 3
    np.save("table.npy", values)
    code = """
    import numpy as np
    def load():
        table, labels = np.load("table.npy", mmap_mode=MODE), np.arange(300) % 3
        return {"train": (table[:240], labels[:240]), "test": (table[240:], labels[240:])}
    """.replace("\n    ", "\n")
    Path("my_data.py").write_text(code.replace("MODE", "None"))
    plain = load()
    del sys.modules["my_data"]
    Path("my_data.py").write_text(code.replace("MODE", '"r"'))
    monkeypatch.setattr("nas_compress.data.array_conversion.RESIDENT", 100)
    mapped = load(train_samples=100)
    assert (
        isinstance(mapped.train.inputs["input"], MappedTensor) and mapped.train.inputs["input"].dtype == torch.float32
    )
    whole = load()
    assert whole.fingerprint == plain.fingerprint and torch.equal(inputs(whole), inputs(plain))
    assert whole.normalisation == plain.normalisation


def _trained(data: Dataset) -> torch.Tensor:
    class Flat(torch.nn.Linear):
        def forward(self, samples: torch.Tensor) -> torch.Tensor:
            return super().forward(samples.flatten(1).float())

    torch.manual_seed(0)
    network = Flat(16, 3)
    objective = LossObjective(TrainingLoss(data.task, TASK_LOSS))
    train(
        network,
        data.train,
        data.augmentation,
        objective=objective,
        epochs=2,
        batch_size=32,
        learning_rate=0.01,
        weight_decay=0.01,
        seed=0,
    )
    return network.weight.detach()
