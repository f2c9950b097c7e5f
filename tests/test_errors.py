import importlib
import inspect
import pkgutil

import pytest

import nas_compress
from nas_compress import errors
from nas_compress.errors import NasCompressError, RequestError, TrialError, describe, nearest, refusal, require_known


def own_exceptions() -> set[type[BaseException]]:
    found: set[type[BaseException]] = set()
    for module in pkgutil.walk_packages(nas_compress.__path__, "nas_compress."):
        if module.name.endswith("__main__"):  # would run the command line
            continue
        members = vars(importlib.import_module(module.name)).values()
        found |= {kind for kind in members if inspect.isclass(kind) and issubclass(kind, BaseException)}
    return {kind for kind in found if kind.__module__.startswith("nas_compress")}


def test_every_exception_descends_from_the_root_and_stands_in_the_drawing() -> None:
    for kind in own_exceptions():
        assert issubclass(kind, NasCompressError), kind
        assert kind.__module__ == errors.__name__ and kind.__name__ in str(errors.__doc__)


def test_a_failed_trial_is_no_wrong_request() -> None:
    kinds = own_exceptions() - {NasCompressError}
    assert all(
        sum(issubclass(kind, root) for root in (RequestError, errors.RunError, TrialError)) == 1 for kind in kinds
    )


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("resnt", "; did you mean 'resnet'?"),
        ("mobile", "; did you mean 'mobilenet'?"),
        ("m", "; did you mean 'mobilenet'?"),
        ("xyz", "; valid are mobilenet, resnet"),
        ("", "; valid are mobilenet, resnet"),
    ],
)
def test_the_nearest_name_is_offered(name: str, hint: str) -> None:
    assert nearest(name, ["resnet", "mobilenet"]) == hint


def test_nothing_is_offered_where_there_is_nothing() -> None:
    assert nearest("x", []) == ""


def test_messages_are_one_line() -> None:
    assert describe(ValueError("two\nlines")) == "ValueError: two lines"
    assert str(refusal("two\n  lines", "study.toml: data")) == "two lines (study.toml: data)"
    assert str(refusal("one", "")) == "one"


def test_a_known_name_passes_and_another_says_where() -> None:
    require_known("a thing", "a", iter(["a", "b"]))
    with pytest.raises(RequestError, match=r"^a thing must be a known name, but got 'c' \(here\); valid are a, b$"):
        require_known("a thing", "c", iter(["a", "b"]), "here")
