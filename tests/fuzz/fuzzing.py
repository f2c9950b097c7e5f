"""Every file of a run under every command: the cases, and their verdicts."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from command_lines import ANY_MODEL, COMMANDS, REQUESTS, Command
from commands import Commands, prepared_commands
from damage import AS_OWNER, apply, generic, is_forged, kinds
from fuzz_server import Ended, Request
from judging import GOOD, Answers, Verdict, answers, digests, judge
from specimen import Specimen, make_specimen
from target import OUTSIDE


@dataclass(frozen=True, kw_only=True)
class Case:
    """One damaged file and one command."""

    path: str
    kind: str
    command: Command
    seed: int = 0

    def __str__(self) -> str:
        return f"{generic(self.path)}, {self.kind} #{self.seed}: {self.command.name}"


@dataclass(frozen=True, kw_only=True)
class Judged:
    """The verdict about a case."""

    case: Case
    verdict: Verdict
    reason: str
    seconds: float

    @property
    def is_good(self) -> bool:
        return self.verdict in GOOD


@dataclass(frozen=True, kw_only=True, eq=False)
class Bench:
    """Tries cases on a specimen."""

    specimen: Specimen
    commands: Commands
    known: dict[str, tuple[Ended, Answers]] = field(default_factory=dict, init=False)

    def paths(self) -> list[str]:
        """Every file and folder that can be damaged."""
        root = self.specimen.pristine
        found = [path.relative_to(root).as_posix() for path in sorted(root.rglob("*"))]
        roots = ("runs", "study", "bundle", "cache")
        return [path for path in found if path not in roots and not re.search(rf"^{OUTSIDE}|__pycache__", path)]

    def judge(self, case: Case) -> Judged | None:
        """Try a case; None if the file cannot have this damage."""
        healthy, wanted = self._undamaged(case.command)
        place = self.specimen.place
        self.specimen.restore()
        if not apply(case.kind, case.path, place, case.seed):
            return None
        trusted = not _is_request(case) and not is_forged(case.kind, place / case.path)
        before = {path: digest for path, digest in digests(place).items() if not _covers(case.path, path)}
        left = answers(case.command, healthy, place).get(case.path)
        ended = self._run(case.command, plain=case.kind in AS_OWNER)
        found = answers(case.command, ended, place)
        verdict, reason = judge(
            ended,
            damaged=case.path,
            before=before,
            after=digests(place),
            wanted=wanted,
            found=found,
            usual=healthy.err.splitlines(),
            unwritten=[case.path] if found.get(case.path) == left else [],
            trusted=trusted,
            ran_code=not (case.path in REQUESTS and case.command.runs_code),
        )
        if verdict == "line" and case.command.name.startswith("run") and not self._continues(case, wanted):
            verdict, reason = "lost", f"after repair the run is another; before: {reason}"
        return Judged(case=case, verdict=verdict, reason=reason, seconds=ended.seconds)

    def _undamaged(self, command: Command) -> tuple[Ended, Answers]:
        """The end and the answers of a command on the undamaged run; tried once."""
        if command.name not in self.known:
            self.specimen.restore()
            ended = self._run(command)
            assert ended.code == 0, f"{command.name}: {ended.err}"
            self.known[command.name] = ended, answers(command, ended, self.specimen.place)
        return self.known[command.name]

    def _continues(self, case: Case, wanted: Answers) -> bool:
        """Put the file back after a refusal, and run again: the same models, maybe under other numbers of trials."""
        self.specimen.repair(case.path)
        ended = self._run(case.command)
        return ended.code == 0 and _models(answers(case.command, ended, self.specimen.place)) == _models(wanted)

    def _run(self, command: Command, plain: bool = False) -> Ended:
        request = Request(
            arguments=command.arguments, folder=str(self.specimen.place), plain=plain, sketched=not command.drawn
        )
        return self.commands.run(request)


@contextmanager
def open_bench(*, quick: bool = False) -> Iterator[Bench]:
    """Make the specimen in a new folder, and remove it at the end. quick: only for the quick commands."""
    folder = Path(tempfile.mkdtemp(prefix="nas_compress_fuzz_"))
    try:
        with prepared_commands(folder, folder / "place" / "cache", quick=quick) as commands:
            yield Bench(specimen=make_specimen(folder, commands, quick=quick), commands=commands)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def try_all(bench: Bench, cases: Sequence[Case], show: Callable[[str], None]) -> list[Judged]:
    """Try cases, and show defects."""
    judged = []
    for case in cases:
        found = bench.judge(case)
        if found is not None:
            judged.append(found)
            if not found.is_good:
                show(f"{found.verdict}: {case}: {found.reason}")
    return judged


def every_case(bench: Bench, *, seed: int = 0) -> list[Case]:
    """Every path under every command, with the kinds of damage dealt out in turn.

    A command that reads the path gets three cases, a costly one two. The others get one; of the costly ones, every
    fourth pair gets one.
    """
    random = Random(seed)
    cases = []
    for path in bench.paths():
        suited, deck = list(kinds(bench.specimen.pristine / path)), list[str]()
        if path.endswith("samples.npz"):  # the user's own code opens it, and would wait for the writer of a pipe
            suited.remove("a pipe")
        for command in COMMANDS:
            if path.startswith(command.reads) or any(pattern.startswith(f"{path}/") for pattern in command.reads):
                count = 2 if command.costly else 3
            else:
                count = 1 if not command.costly or random.random() < 0.25 else 0
            for number in range(count):
                deck = deck or random.sample(suited, len(suited))
                cases.append(Case(path=path, kind=deck.pop(), command=command, seed=number))
    return cases


def some_cases(bench: Bench, *, count: int, seed: int = 0) -> list[Case]:
    """A sample of the cases: every quick command about equally often, a costly one twice."""
    random = Random(seed)
    commands = [command for command in COMMANDS if command.quick]
    every = {command.name: list[Case]() for command in commands}
    for case in every_case(bench, seed=seed):
        if case.command.quick and (case.path.startswith(case.command.reads) or not case.command.reads):
            every[case.command.name].append(case)
    turns = [command for turn in range(count) for command in commands if turn < 2 or not command.costly]
    return [random.choice(every[command.name]) for command in turns[:count]]


def _is_request(case: Case) -> bool:
    """True if the user may do to the file what the case does, and so gets other numbers.

    A trial without its folder or record counts as not finished. A run without its folder is a new one.
    """
    removed = case.kind in ("missing", "emptied")
    if removed and re.fullmatch(r"runs(/tiny(/trials(/\d+(/outcome\.json)?)?)?)?", case.path):
        return True
    return case.path in REQUESTS or (case.path in ANY_MODEL and case.command.name.startswith("measure"))


def _models(found: Answers) -> list[str]:
    return sorted(str(content) for path, content in found.items() if path.endswith("model.onnx"))


def _covers(damaged: str, path: str) -> bool:
    return path == damaged or path.startswith(f"{damaged}/")
