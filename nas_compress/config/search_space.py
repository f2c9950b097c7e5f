"""Load search spaces and call them; a mistake in one gives an error of one line."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any, Literal

from nas_compress.config.suggest import GivenWalk, RandomWalk, Suggest
from nas_compress.errors import RequestError, describe, nearest
from nas_compress.values.candidate import Candidate


@dataclass(frozen=True, kw_only=True)
class Space:
    """A search space. source_hash: of its text, because a changed space is another study."""

    name: str
    source_hash: str
    summary: str
    function: Callable[[Suggest], object]

    def suggest(self, trial: Suggest) -> Candidate:
        """Ask the space for a candidate; any error inside becomes a RequestError."""
        try:
            candidate = self.function(trial)
        except RequestError as error:
            raise RequestError(f"space {self.name}: {error}") from error
        except Exception as error:
            rule = f"suggest() of space {self.name} must return a Candidate"
            raise RequestError(f"{rule}, but raised {describe(error)}") from error
        if not isinstance(candidate, Candidate):
            kind = type(candidate).__name__
            raise RequestError(f"suggest() of space {self.name} must return a Candidate, but returned {kind}")
        return candidate


def load_space(name: str, *, folder: Path, shipped: Path, where: str = "") -> Space:
    """Load a built-in space from the folder `shipped`, or the user's file by a path relative to `folder`."""
    place = f" ({where})" if where else ""
    path = folder / name if name.endswith(".py") else shipped / f"{name}.py"
    if not path.is_file():
        known = [file.stem for file in shipped.glob("*.py")]
        raise RequestError(
            f"a space must be a built-in name or a path to a .py file, but got {name!r}{place}{nearest(name, known)}"
        )
    module = _import(path, place)
    function = getattr(module, "suggest", None)
    if not callable(function):
        raise RequestError(f"a space must define suggest(trial), but {path} does not{place}")
    summary = (module.__doc__ or "").strip().splitlines()
    return Space(
        name=path.stem,
        source_hash=hashlib.sha256(path.read_bytes()).hexdigest()[:16],
        summary=summary[0] if summary else "",
        function=function,
    )


def fixed_space(candidate: Candidate) -> Space:
    """A space of one point."""
    return Space(
        name="fixed",
        source_hash=candidate.fingerprint,
        summary="one candidate",
        function=lambda trial: candidate,
    )


def with_sizes(space: Space, name: Literal["image_size", "vocabulary_size"], sizes: tuple[int, ...]) -> Space:
    """Return a space whose candidates have one of the sizes, searched under this name unless the space gives one.

    sizes: none for the space as it is.
    """

    def suggest(trial: Suggest) -> object:
        candidate = space.function(trial)
        if not isinstance(candidate, Candidate) or getattr(candidate, name) is not None:
            return candidate
        chosen: dict[str, Any] = {name: trial.suggest_categorical(name, list(sizes))}
        return replace(candidate, **chosen)

    return replace(space, function=suggest) if sizes else space


GIVEN_WALKS = 100
"""Random draws of the open parameters of a start point, to check that the given ones are always used."""


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """Distinct random candidates of a space.

    params: the suggested values of each. points: estimated number of points in the space.
    """

    candidates: tuple[Candidate, ...]
    params: tuple[Mapping[str, object], ...]
    points: float


def sample_space(space: Space, *, draws: int, seed: int) -> Sampled:
    """Draw `draws` times from the space. The size is exact if every draw has equally many choices."""
    random = Random(seed)
    found: dict[str, tuple[Candidate, Mapping[str, object]]] = {}
    ways = 0.0
    for _ in range(draws):
        walk = RandomWalk(random)
        candidate = space.suggest(walk)
        found.setdefault(candidate.fingerprint, (candidate, walk.params))
        ways += walk.ways
    return Sampled(
        candidates=tuple(candidate for candidate, _ in found.values()),
        params=tuple(params for _, params in found.values()),
        points=ways / draws,
    )


def check_given(space: Space, given: Mapping[str, object], where: str) -> None:
    """Raise RequestError for given parameters outside the space, or with values outside their choices.

    A parameter is also refused if only some values of the open parameters use it.
    """
    random, used = Random(0), False
    walks = [GivenWalk(random, given) for _ in range(GIVEN_WALKS)]
    for walk in walks:
        space.suggest(walk)
        if walk.refused is not None:
            raise RequestError(f"{walk.refused} ({where})")
        used = used or not walk.unused
    lacking = next((walk for walk in walks if walk.unused), None)
    if lacking is not None:
        name = lacking.unused[0]
        hint = "; give the parameters that it depends on too" if used else nearest(name, lacking.params)
        raise RequestError(
            f"every parameter must be searched together with the others given, but got {name!r} ({where}){hint}"
        )


def _import(path: Path, place: str) -> ModuleType:
    module = ModuleType(f"nas_compress_space_{path.stem}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses and pickle look up a class's module here
    try:
        # compiled from the hashed text, because Python's cache may be older
        exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)
    except Exception as error:
        sys.modules.pop(module.__name__, None)
        raise RequestError(f"a space must be importable, but {path} raised {describe(error)}{place}") from error
    return module
