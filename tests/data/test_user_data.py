import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from nas_compress.data.dataset import Dataset
from nas_compress.data.load_dataset import load_dataset
from nas_compress.errors import RequestError
from nas_compress.tasks.classification import Classification

WHERE = "study.toml: data.factory"

GOOD = """
import numpy as np

def split(samples, seed):
    labels = np.arange(samples) % 3
    images = np.random.default_rng(seed).integers(0, 200, size=(samples, 5, 4), dtype=np.uint8)
    return images + labels[:, None, None].astype(np.uint8), labels

def load():
    return {"train": split(60, 0), "test": split(12, 1)}
"""

BASE = GOOD + "\nimport torch\nfrom torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset\n"


@pytest.fixture(autouse=True)
def forget_user_modules() -> Iterator[None]:
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("my_"):
            del sys.modules[name]


def load(folder: Path, code: str, factory: str = "my_data:load", **choices: int | bool) -> Dataset:
    (folder / "my_data.py").write_text(textwrap.dedent(code))
    return load_dataset(factory=factory, folder=folder, where=WHERE, **choices)  # type: ignore[arg-type]


def new(folder: Path) -> Path:
    """Another folder: a module that was imported once from a folder stays as it was."""
    (folder / "new").mkdir()
    return folder / "new"


def refused(folder: Path, code: str, factory: str = "my_data:load") -> str:
    with pytest.raises(RequestError) as caught:
        load(folder, code, factory)
    message = str(caught.value)
    assert "\n" not in message
    assert WHERE in message
    return message


def returning(expression: str) -> str:
    """The good module, but `load` returns this instead; `good` is the good answer."""
    return f"{BASE}\ngood = load()\nimages, labels = good['train']\ndef load():\n    return {expression}\n"


def test_a_module_of_ten_lines_works(tmp_path: Path) -> None:
    data = load(tmp_path, GOOD)
    assert data.name == "my_data:load"
    assert data.task == Classification.of_images(shape=(1, 5, 4), classes=3) and data.augmentation.count == 1
    assert (len(data.train), len(data.validation), len(data.test)) == (51, 9, 12)
    assert data.validation.targets["label"].bincount().tolist() == [3, 3, 3]


def test_train_and_validation_together_are_what_train_was(tmp_path: Path) -> None:
    data = load(tmp_path, GOOD)
    whole = np.random.default_rng(0).integers(0, 200, size=(60, 5, 4), dtype=np.uint8)
    whole += (np.arange(60) % 3)[:, None, None].astype(np.uint8)
    found = torch.cat([data.train.inputs["input"], data.validation.inputs["input"]]).numpy()
    assert sorted(image.tobytes() for image in found) == sorted(image.tobytes() for image in whole)


def test_a_given_validation_split_is_left_as_it_is(tmp_path: Path) -> None:
    code = returning("{**good, 'validation': (images[:30], labels[:30])}")
    data = load(tmp_path, code)
    assert (len(data.train), len(data.validation)) == (60, 30)
    assert torch.equal(data.train.inputs["input"][:30], data.validation.inputs["input"])


def test_the_seed_divides_and_the_rest_is_chosen(tmp_path: Path) -> None:
    first = load(tmp_path, GOOD, seed=0)
    other = load(tmp_path, GOOD, seed=1, shift=1, flip=True, train_samples=30)
    assert not torch.equal(first.validation.inputs["input"], other.validation.inputs["input"])
    assert other.augmentation.count == 18
    assert other.train.targets["label"].bincount().tolist() == [10, 10, 10]


@pytest.mark.parametrize(
    "expression",
    [
        "{k: (torch.tensor(x), torch.tensor(y)) for k, (x, y) in good.items()}",
        "{k: [x, y.astype(np.uint8)] for k, (x, y) in good.items()}",
        "{k: (x, list(y)) for k, (x, y) in good.items()}",
        "{k: (x, y[:, None]) for k, (x, y) in good.items()}",
        "{k: (x[:, None], y) for k, (x, y) in good.items()}",
        "{k: TensorDataset(torch.tensor(x), torch.tensor(y)) for k, (x, y) in good.items()}",
        "{k: TensorDataset(torch.tensor(x)[:, None] / 255, torch.tensor(y)) for k, (x, y) in good.items()}",
        "{k: TensorDataset(torch.tensor(x).mul(1 / 255), torch.tensor(y)) for k, (x, y) in good.items()}",
    ],
)
def test_the_same_images_in_another_dress_are_the_same_data(tmp_path: Path, expression: str) -> None:
    plain = load(tmp_path, GOOD)
    dressed = load(new(tmp_path), returning(expression))
    assert dressed.fingerprint == plain.fingerprint
    revealed = [data.test.reveal(purpose="compare").inputs["input"] for data in (plain, dressed)]
    assert torch.equal(*revealed)


def test_every_byte_survives_the_way_through_floats(tmp_path: Path) -> None:
    code = """
    import torch
    from torch.utils.data import TensorDataset
    images = torch.arange(256).reshape(4, 1, 8, 8)
    def load():
        split = TensorDataset(images / 255, torch.tensor([0, 1, 0, 1]))
        return {"train": split, "validation": split, "test": split}
    """
    assert load(tmp_path, code).train.inputs["input"].flatten().tolist() == list(range(256))


def test_pictures_become_channels_first(tmp_path: Path) -> None:
    pytest.importorskip("PIL.Image")
    code = """
    import numpy as np
    from PIL import Image
    from torch.utils.data import Dataset

    class Pictures(Dataset):
        def __len__(self):
            return 4
        def __getitem__(self, index):
            pixels = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3) + index
            return Image.fromarray(pixels, mode=None), index % 2

    def load():
        return {"train": Pictures(), "validation": Pictures(), "test": Pictures()}
    """
    data = load(tmp_path, code)
    assert data.task.signature.input("input").sample_shape == (3, 2, 3)
    expected = torch.arange(18, dtype=torch.uint8).reshape(2, 3, 3).permute(2, 0, 1) + 1
    assert torch.equal(data.train.inputs["input"][1], expected)


def test_the_users_own_array_is_not_held(tmp_path: Path) -> None:
    code = returning("{'train': good['train'], 'validation': good['train'], 'test': good['test']}")
    data = load(tmp_path, code)
    before = data.train.inputs["input"].clone()
    sys.modules["my_data"].images[:] = 0
    assert torch.equal(data.train.inputs["input"], before)


def test_a_read_only_or_mirrored_array_is_read_without_a_warning(tmp_path: Path) -> None:
    code = returning("{**good, 'train': (np.broadcast_to(images[:, ::-1], images.shape), labels[:])}")
    assert len(load(tmp_path, code).train) == 51


def test_the_path_is_as_before(tmp_path: Path) -> None:
    before = list(sys.path)
    load(tmp_path, GOOD)
    assert sys.path == before


def test_the_path_is_as_before_also_after_an_error(tmp_path: Path) -> None:
    before = list(sys.path)
    refused(tmp_path, "def load():\n    raise OSError('gone')")
    assert sys.path == before


def test_two_folders_with_a_module_of_one_name_do_not_mix(tmp_path: Path) -> None:
    prints = []
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        prints.append(load(tmp_path / folder, GOOD.replace("200", "100" if folder == "two" else "200")).fingerprint)
    assert prints[0] != prints[1]


def test_a_neighbouring_module_may_be_imported_late(tmp_path: Path) -> None:
    (tmp_path / "my_helper.py").write_text(GOOD)
    assert len(load(tmp_path, "def load():\n    import my_helper\n    return my_helper.load()").train) == 51


@pytest.mark.parametrize("factory", ["my_data", "my_data:", ":load", "my_data.py:load:x", "my data:load", "a/b:load"])
def test_a_factory_that_is_no_module_and_callable(tmp_path: Path, factory: str) -> None:
    assert f"factory must be 'module:callable', but got {factory!r}" in refused(tmp_path, GOOD, factory)


def test_modules_that_cannot_be_imported(tmp_path: Path) -> None:
    gone = refused(tmp_path, GOOD, "my_dato:load")
    assert "'my_dato' raised ModuleNotFoundError: No module named 'my_dato'" in gone
    assert "'my_data' raised SyntaxError" in refused(tmp_path, "def load(:\n")


def test_a_module_that_fails_at_import_is_named(tmp_path: Path) -> None:
    assert "raised ValueError: two lines" in refused(tmp_path, "raise ValueError('two\\nlines')")


def test_callables_that_are_not(tmp_path: Path) -> None:
    assert "has no 'laod'; did you mean 'load'?" in refused(tmp_path, GOOD, "my_data:laod")
    number = GOOD + "\nnumber = 3\n"
    assert "my_data:number is int" in refused(new(tmp_path), number, "my_data:number")


def test_a_callable_that_raises(tmp_path: Path) -> None:
    message = refused(tmp_path, "def load():\n    raise OSError('the disk\\nis gone')")
    assert "my_data:load() must return the splits, but raised OSError: the disk is gone" in message
    assert "raised TypeError" in refused(new(tmp_path), "def load(needed):\n    return {}")


PIECES = [
    ("[good['train'], good['test']]", "must return a mapping of splits, but got list"),
    ("None", "must return a mapping of splits, but got NoneType"),
    ("{'test': good['test']}", "must include train, and test for `confirm`, but got test"),
    ("{}", "must include train, and test for `confirm`, but got none"),
    ("{**good, 'valid': good['test']}", "'valid' (study.toml: data.factory); did you mean 'validation'"),
    (
        "{**good, 'train': images}",
        "train must be a pair (inputs, labels) or a torch Dataset, but got ndarray",
    ),
    (
        "{**good, 'test': (images,)}",
        "test must be a pair (inputs, labels) or a torch Dataset, but got tuple of length 1",
    ),
    ("{**good, 'train': (list(images), labels)}", "must be a numpy array or a torch tensor, but got list of length 60"),
    ("{**good, 'train': (images / 255, labels)}", "must be the stored bytes, but got floats in steps of 1/255"),
    ("{**good, 'train': (images.astype(str), labels)}", "inputs of train must be numbers, but got <U3"),
    ("{**good, 'train': (images[:, 0, 0], labels)}", "must be (N, ...), but got shape (60,); use x[:, None]"),
    ("{**good, 'train': (np.stack([images] * 3, 3), labels)}", "(60, 5, 4, 3) in train; use x.transpose(0, 3, 1, 2)"),
    ("{**good, 'train': DataLoader(TensorDataset(torch.tensor(images)))}", "got a DataLoader; return its .dataset"),
    ("{**good, 'train': (images.astype(int), labels)}", "samples must have the shape (5, 4) of train in every split"),
    ("{**good, 'train': ({'a b': images}, labels)}", "inputs must have names of letters, digits and _, but got 'a b'"),
    ("{**good, 'train': ({'left': images}, labels)}", "inputs must be left in every split, but got input in test"),
    ("{**good, 'train': (torch.tensor(images).bfloat16(), labels)}", "numpy has, but got torch.bfloat16"),
    ("{**good, 'train': (images[None, None], labels)}", "but got 60 labels for 1 samples of input"),
    (
        "{**good, 'train': (images[:0], labels[:0])}",
        "train must not be empty, but got inputs of shape (0, 5, 4)",
    ),
    (
        "{**good, 'train': (images[:, :0], labels)}",
        "train must not be empty, but got inputs of shape (60, 0, 4)",
    ),
    (
        "{**good, 'train': (images, labels[:-1])}",
        "train must have one label for each input, but got 59 labels for 60 samples of input",
    ),
    (
        "{**good, 'train': (images, labels * 1.0)}",
        'but got whole numbers as float64; use integers, or task = "regression"',
    ),
    ("{**good, 'train': (images, labels + 1)}", "but got 0 of class 0; labels count from 0: subtract 1"),
    ("{**good, 'train': (images, labels * np.nan)}", "targets of train must be finite"),
    ("{**good, 'train': (images, labels.astype(object))}", "must be numbers or words, but got object"),
    ("{**good, 'train': (images, np.array(['a', 'b', 'c'])[labels])}", "labels of test must be words as in train"),
    ("{**good, 'train': (images, np.eye(3)[labels] * 2)}", "whole numbers as float64"),
    ("{**good, 'train': (images, np.eye(3, dtype=int)[labels] * 2)}", "must be 0 or 1 (N, labels)"),
    ("{**good, 'train': (images, labels - 1)}", "labels >= 0 must hold in train, but got -1"),
    ("{**good, 'train': (images, labels * 0)}", "at least 2 classes (largest label + 1), but got 1"),
    (
        "{**good, 'test': (good['test'][0], good['test'][1] + 1)}",
        "0 <= label < 3 (classes of train) must hold in test, but got 3",
    ),
    ("{**good, 'test': (good['test'][0], good['test'][1] - 1)}", "must hold in test, but got -1"),
    (
        "{**good, 'test': (images[:, :4], labels)}",
        "shape (1, 5, 4) of train in every split, but got (1, 4, 4) in test",
    ),
    (
        "{**good, 'train': (images, labels * 2)}",
        "train must have samples of each class 0 to 4, but got 0 of class 1",
    ),
    ("{**good, 'train': (images, labels * 10**9)}", "but got 0 of class 1"),
    ("{**good, 'train': (images[:4], labels[:4])}", "validation (15% of train) must have samples of each class 0 to 2"),
    ("{**good, 'validation': (images[:2], labels[:2])}", "validation must have samples of each class 0 to 2"),
    ("{**good, 'groups': labels[:7]}", "groups must be 60 numbers or words, one for each sample of train, but got"),
    (
        "{**good, 'validation': good['test'], 'groups': labels}",
        "but there are none for validation and test; return {",
    ),
    ("{**good, 'groups': {'test': labels}}", "groups must be given for each split, because one may be in two"),
    (
        "{**good, 'groups': {'train': labels, 'tset': labels}}",
        "must be a known name, but got 'tset' (study.toml: data.factory); did you mean 'test'?",
    ),
    ("{**good, 'groups': labels * 0}", "at least 2 groups to draw a validation split, but got 1"),
    (
        "{**good, 'train': (images * 0 + 7, labels)}",
        "training inputs must not all be equal, but got 7 everywhere",
    ),
    (
        "{**good, 'train': type('S', (IterableDataset,), {'__iter__': None})()}",
        "must be a map-style Dataset, but got the iterable S",
    ),
    (
        "{**good, 'train': type('S', (Dataset,), {})()}",
        "train must have a length, but len() raised TypeError",
    ),
    ("{**good, 'train': items()}", "train must not be empty, but got a Dataset of length 0"),
    ("{**good, 'train': items(3)}", "train[0] must be a pair (sample, label), but got int"),
    (
        "{**good, 'train': items((images[0], 0), (images[0], 0.5))}",
        "must have one type, uint8 with targets int64 as the first, but got uint8 with float64 at index 1",
    ),
    ("{**good, 'train': items((images[0], {'boxes': 1, 'labels': 2}))}", "(boxes, labels); detection is not supported"),
    ("{**good, 'train': items((images[0], None))}", "must be integers, numbers or words, but got NoneType at train[0]"),
    ("{**good, 'train': items((images[0], 0), (images[0] * 1.5, 1))}", "one type, uint8 with targets int64"),
    (
        "{**good, 'train': items(('picture.png', 0))}",
        "train[0] must be a numpy array or a torch tensor, but got str",
    ),
    ("{**good, 'train': Noisy()}", "but train[0] differs at a second reading; return the plain samples and name"),
    ("{**good, 'train': items((images[0], 0), (images[0, 1:], 1))}", "but got (4, 4) at index 1"),
    (
        "{**good, 'train': items((images[0], 0), None)}",
        "train[1] must be a pair (sample, label), but got NoneType",
    ),
    (
        "{**good, 'train': items((images[0], 0), OSError('gone'))}",
        "train[1] must be a sample, but reading it raised OSError: gone",
    ),
]

ITEMS = """
class Items(Dataset):
    def __init__(self, *values):
        self.values = values
    def __len__(self):
        return len(self.values)
    def __getitem__(self, index):
        if isinstance(self.values[index], Exception):
            raise self.values[index]
        return self.values[index]
items = Items

class Noisy(Dataset):
    def __len__(self):
        return 6
    def __getitem__(self, index):
        return torch.rand(5, 4), index % 2
"""


@pytest.mark.parametrize(("expression", "message"), PIECES)
def test_what_the_callable_may_not_return(tmp_path: Path, expression: str, message: str) -> None:
    assert message in refused(tmp_path, returning(expression) + ITEMS)


def test_groups_of_the_user_stay_whole_in_a_drawn_validation_split(tmp_path: Path) -> None:
    groups = "np.arange(60) // 4"
    code = f"{BASE}\ngood = load()\nimages, labels = good['train']\nimages[:, 0, 0] = {groups}\ndef load():\n"
    data = load(tmp_path, f"{code}    return {{**good, 'groups': [f'speaker {{each}}' for each in {groups}]}}\n")
    validation, train = (set(split.inputs["input"][:, 0, 0, 0].tolist()) for split in (data.validation, data.train))
    assert validation and not validation & train and len(data.validation) + len(data.train) == 60


def test_a_group_in_two_given_splits_is_refused(tmp_path: Path) -> None:
    given = "'validation': (images[:6], labels[:6]), 'groups': {'train': np.arange(60), 'validation': VALUES}"
    code = returning(f"{{'train': (images, labels), {given}}}")
    (tmp_path / "apart").mkdir()
    load(tmp_path / "apart", code.replace("VALUES", "np.arange(60, 66)"))
    message = "a group must be in one split, but group 59 is in train and validation (1 such groups)"
    assert message in refused(tmp_path, code.replace("VALUES", "np.arange(59, 65)"))


def test_a_missing_test_split_is_asked_for_when_it_is_read(tmp_path: Path) -> None:
    data = load(tmp_path, returning("{'train': good['train']}"))
    assert len(data.test) == 0 and len(data.train) + len(data.validation) == 60
    with pytest.raises(
        RequestError, match='must have a test split to read, but their function returned none; add "test"'
    ):
        data.test.reveal(purpose="to see")
