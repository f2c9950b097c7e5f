"""The examples in docstrings run as printed, in a folder with a small study `mine`."""

import doctest
import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import nas_compress
from running import quick_and_apart, write_study

MODULES = [
    module.name
    for module in pkgutil.walk_packages(nas_compress.__path__, "nas_compress.")
    if not module.name.endswith("__main__")
]


@pytest.fixture(scope="module", autouse=True)
def _beside_a_study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder: Path = tmp_path_factory.mktemp("examples")
    write_study(folder / "mine", ('name = "tiny"', 'name = "mine"'))
    with quick_and_apart() as patch:
        patch.chdir(folder)
        yield


@pytest.mark.parametrize("name", MODULES)
def test_examples_hold(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


@pytest.mark.parametrize("name", nas_compress.__all__)
def test_every_public_name_has_an_example(name: str) -> None:
    found = doctest.DocTestFinder(recurse=False).find(getattr(nas_compress, name), name)
    assert any(test.examples for test in found)
