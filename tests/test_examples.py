"""The examples in docstrings run as printed."""

import doctest
import importlib
import pkgutil

import pytest

import nas_compress

MODULES = [
    module.name
    for module in pkgutil.walk_packages(nas_compress.__path__, "nas_compress.")
    if not module.name.endswith("__main__")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_hold(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_there_are_examples() -> None:
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = [test for name in MODULES for test in finder.find(importlib.import_module(name)) if test.examples]
    assert len(found) >= 5
