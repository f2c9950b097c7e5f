"""The command lines that the bench tries."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command line and the files that hold its answers.

    reads: beginnings of the paths that it reads. drawn: writes pictures as its answers. costly: takes half a second or
    more. quick: belongs to the short form, whose process imports less.
    """

    name: str
    arguments: tuple[str, ...]
    answers: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    drawn: bool = False
    costly: bool = False
    quick: bool = True

    @property
    def runs_code(self) -> bool:
        """True if the command names a study, and so the code of its user."""
        return bool({"study", "bundle/config.json"} & set(self.arguments)) or self.name == "confirm"


RUN_ANSWERS = tuple(
    f"runs/tiny/{name}"
    for name in ("trials/*/outcome.json", "trials/*/model.onnx", "front.json", "teacher/outcome.json")
)

RECORDS = ("runs/tiny/run.json", "runs/tiny/trials", "runs/tiny/teacher/outcome.json")
RUN = (
    "runs/tiny/run.json",
    "runs/tiny/study.journal",
    "runs/tiny/trials",
    "runs/tiny/teacher",
    "runs/tiny/checkpoints",
)

COMMANDS = (
    Command(name="status", arguments=("status", "tiny"), reads=RECORDS),
    Command(name="show", arguments=("show", "tiny"), reads=RECORDS),
    Command(name="show --json", arguments=("show", "tiny", "--json"), reads=RECORDS),
    Command(name="show --trial", arguments=("show", "tiny", "--trial", "1"), reads=RECORDS),
    Command(
        name="plot",
        arguments=("plot", "tiny", "--out", "front.png"),
        answers=("front*.png",),
        reads=(*RECORDS, "runs/tiny/confirm.json"),
        costly=True,
        drawn=True,
        quick=False,
    ),
    Command(
        name="report",
        arguments=("report", "tiny", "--out", "page.html"),
        answers=("page.html",),
        reads=(*RECORDS, "runs/tiny/confirm.json"),
        costly=True,
        quick=False,
    ),
    Command(
        name="export", arguments=("export", "tiny", "--trial", "1", "--out", "new"), answers=("new/*",), reads=RECORDS
    ),
    Command(
        name="measure",
        arguments=("measure", "bundle/model.onnx", "--study", "study"),
        reads=("bundle/model.onnx", "study", "cache/latency"),
    ),
    Command(
        name="measure .xz",
        arguments=("measure", "packed.onnx.xz", "--study", "study"),
        reads=("packed.onnx.xz", "study", "cache/latency"),
    ),
    Command(
        name="dashboard",
        arguments=("dashboard", "tiny", "--port", "0"),
        reads=(*RECORDS, "runs/tiny/study.journal"),
        quick=False,
    ),
    Command(name="list", arguments=("list", "spaces")),
    Command(name="verify --fast", arguments=("verify", "tiny", "--fast"), reads=("runs/tiny",)),
    Command(name="verify", arguments=("verify", "tiny", "--study", "study"), reads=(*RECORDS, "study")),
    Command(name="check", arguments=("check", "study"), reads=("study", "cache"), costly=True, quick=False),
    Command(
        name="confirm",
        arguments=("confirm", "tiny", "--best", "accuracy", "--seeds", "1"),
        answers=("runs/tiny/confirm.json", "runs/tiny/confirm.csv", "runs/tiny/confirm/*/*/*"),
        reads=(*RECORDS, "runs/tiny/confirm", "study", "cache"),
        costly=True,
        quick=False,
    ),
    Command(
        name="run (complete)", arguments=("run", "study", "--trials", "4"), answers=RUN_ANSWERS, reads=(*RUN, "study")
    ),
    Command(
        name="run (continue)",
        arguments=("run", "study"),
        answers=RUN_ANSWERS,
        reads=(*RUN, "study", "cache"),
        costly=True,
    ),
    Command(
        name="run config.json",
        arguments=("run", "bundle/config.json", "--out", "again"),
        answers=("again/trials/*/*.json", "again/trials/*/model.onnx", "again/front.json"),
        reads=("bundle/config.json", "bundle/samples", "cache"),
        costly=True,
        quick=False,
    ),
)

REQUESTS = (
    "study/study.toml",
    "study/space.py",
    *(f"{folder}/samples.{ending}" for folder in ("study", "bundle") for ending in ("py", "npz")),
)
"""Files of the user. Another number in them is another request."""

ANY_MODEL = ("bundle/model.onnx", "packed.onnx.xz")
"""Files that `measure` takes from anyone, so that it cannot know the right numbers."""
