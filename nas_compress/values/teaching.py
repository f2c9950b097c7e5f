"""Teaching of a student: the terms of its loss, its teacher and the schedule."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from nas_compress.errors import RequestError, require_known

TEACHERS: Mapping[str, tuple[str, str]] = {
    "fixed": ("the study's teacher, or as it was earlier in its training", "Cho, Hariharan 2019, arXiv 1910.01348"),
    "ensemble": ("several trainings of the study's teacher", "Hinton et al. 2015, arXiv 1503.02531"),
    "assistant": ("a smaller network taught by the teacher", "Mirzadeh et al. 2020, arXiv 1902.03393"),
    "out_of_fold": ("teachers that answer only the samples they did not learn", "Wolpert 1992, Neural Networks 5(2)"),
    "single_tasks": ("a teacher for each of several tasks", "Clark et al. 2019, arXiv 1907.04829"),
    "task_agnostic": (
        "the pretrained encoder before it learned the task: first its features, then labels",
        "Wang et al. 2020, arXiv 2002.10957; Reimers, Gurevych 2020, arXiv 2004.09813",
    ),
    "born_again": ("the student's own earlier generation", "Furlanello et al. 2018, arXiv 1805.04770"),
    "mutual": ("peers that learn together with the student", "Zhang et al. 2018, arXiv 1706.00384"),
    "apprentice": ("a student that rounds from its first step on", "Mishra, Marr 2018, arXiv 1711.05852"),
}
"""Kinds of teachers, each with its summary and source."""

SCHEMES = ("joint", "fixed", "fine_tuned")
"""Schemes of an apprentice: A, B and C of the paper."""

BODIES = ("tuned", "frozen")
"""Training by labels after the features: of the whole network, or of its head alone."""

CHECKPOINTS = (0.25, 0.5, 0.75, 1.0)
"""Fractions of the teacher's training with a stored checkpoint."""

TEACHER_SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "fixed": {"checkpoint": 1.0},
    "ensemble": {"members": 3, "average": "probability"},
    "assistant": {"assistant_size": 0.5},
    "out_of_fold": {"folds": 5},
    "single_tasks": {},
    "task_agnostic": {"distilled": 0.7, "body": "tuned"},
    "born_again": {"generations": 2},
    "mutual": {"peers": 1, "peer_width": 1.0, "peer_family": None, "peer_depths": None},
    "apprentice": {"scheme": "joint"},
}
"""The settings of each kind of teacher, with their defaults."""


LATER_SETTINGS = ("folds", "distilled", "body")
"""Settings that are saved only if they are given."""


@dataclass(frozen=True, kw_only=True)
class LossTerm:
    """One named term of the training loss, its weight and its settings.

    Search spaces call the weight `hard_weight` on labels and `soft_weight` on the teacher's answers.

    >>> LossTerm(name="kd", weight=0.9, settings={"temperature": 4.0}).setting("temperature")
    4.0
    """

    name: str
    weight: float = 1.0
    settings: tuple[tuple[str, float], ...] | Mapping[str, float] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "weight", float(self.weight))  # equal terms must give equal text
        pairs = self.settings.items() if isinstance(self.settings, Mapping) else self.settings
        object.__setattr__(self, "settings", tuple(sorted((str(k), float(v)) for k, v in pairs)))
        if not 0 < self.weight < math.inf:
            raise RequestError(f"0 < weight < inf must hold for loss {self.name!r}, but got weight={self.weight}")

    def setting(self, key: str) -> float:
        """The value of one setting; KeyError if the term lacks it."""
        return dict(self.settings)[key]


def cross_entropy() -> tuple[LossTerm, ...]:
    """Cross-entropy on the labels, without a teacher."""
    return (LossTerm(name="cross_entropy"),)


def label_smoothing(smoothing: float = 0.1) -> tuple[LossTerm, ...]:
    """Cross-entropy on smoothed labels: the control for the gain by a teacher."""
    return (LossTerm(name="label_smoothing", settings={"smoothing": smoothing}),)


def distillation(*, hard_weight: float, soft_weight: float, temperature: float) -> tuple[LossTerm, ...]:
    """Logits distillation (Hinton et al. 2015, arXiv 1503.02531): labels and teacher, weighted.

    A weight of 0 removes its term; one of them must be positive.
    """
    if hard_weight < 0 or soft_weight < 0 or hard_weight + soft_weight == 0:
        raise RequestError(
            "hard_weight >= 0, soft_weight >= 0 and one of them > 0 must hold, "
            f"but got hard_weight={hard_weight}, soft_weight={soft_weight}"
        )
    terms = []
    if hard_weight:
        terms.append(LossTerm(name="cross_entropy", weight=hard_weight))
    if soft_weight:
        terms.append(LossTerm(name="kd", weight=soft_weight, settings={"temperature": temperature}))
    return tuple(terms)


@dataclass(frozen=True, kw_only=True)
class Teaching:
    """The teacher of a student, and the weight of its terms over the training.

    teacher: one of TEACHERS, each with its own settings.
    `fixed`: the study's teacher. `checkpoint`: 0.25, 0.5 or 0.75 for the teacher after that part of its training (Cho,
    Hariharan 2019, arXiv 1910.01348).
    `ensemble`: several trainings of the study's teacher. `members`: their number. `average`: of `probability` or
    `logits`. Terms on features use the first member.
    `assistant`: a smaller network, itself taught by the teacher (Mirzadeh et al. 2020, arXiv 1902.03393).
    `assistant_size`: its width as a fraction of the teacher's.
    `out_of_fold`: the samples with a label are divided into `folds`, and each fold is answered by a network like the
    teacher that was trained on the others (Wolpert 1992). The teacher itself answers samples without a label.
    `single_tasks`: of several tasks, a network like the teacher for each task, trained on it alone (Clark et al. 2019).
    `task_agnostic`: the encoder of `teacher.hugging_face` as it was before its fine-tuning (Wang et al. 2020). For the
    fraction `distilled` of the epochs the student learns its features from all texts, without labels; then it learns
    labels alone. `body`: `tuned` trains the whole network by labels, `frozen` its head alone. A student that inherits
    has the weights of that encoder.
    `born_again`: a student teaches the next student of the same shape (Furlanello et al. 2018, arXiv 1805.04770).
    `generations`: number of students; the last one is the result.
    `mutual`: peers learn together with the student, each from the others (Zhang et al. 2018, arXiv 1706.00384). The
    student is the result, even if a peer is better. `peers`: their number. `peer_width`: factor of the student's width
    multiplier. `peer_depths`: blocks per stage. `peer_family`: another family, at its base depths by default.
    `apprentice`: the student rounds from its first step on (Mishra, Marr 2018, arXiv 1711.05852; there with
    cross-entropy and `kd` at temperature 1 in equal parts). `scheme`: `joint` (A: a float network of the teacher's
    shape learns from the labels at the same time and teaches it), `fixed` (B: the study's teacher) or `fine_tuned`
    (C: a training on labels in float, then the same number of epochs under rounding at a tenth of the learning rate;
    a control, because it inherits weights).

    annealing: the weights of terms on labels grow and those of terms on the teacher fall, linearly over the planned
    steps (Clark et al. 2019, arXiv 1907.04829).
    soft_stop: the fraction of the planned steps after which terms on the teacher end.

    >>> Teaching(teacher="born_again").generations
    2
    """

    teacher: str = "fixed"
    checkpoint: float | None = None
    members: int | None = None
    average: str | None = None
    assistant_size: float | None = None
    generations: int | None = None
    peers: int | None = None
    peer_width: float | None = None
    peer_family: str | None = None
    peer_depths: tuple[int, ...] | None = None
    annealing: bool = False
    soft_stop: float = 1.0
    scheme: str | None = None
    folds: int | None = None
    distilled: float | None = None
    body: str | None = None

    def __post_init__(self) -> None:
        require_known("teaching.teacher", self.teacher, TEACHERS)
        if self.peer_depths is not None:
            object.__setattr__(self, "peer_depths", tuple(self.peer_depths))  # JSON gives a list
        for kind, knobs in TEACHER_SETTINGS.items():
            for name, default in knobs.items():
                value = getattr(self, name)
                if kind == self.teacher and value is None:
                    object.__setattr__(self, name, default)
                elif kind != self.teacher and value is not None:
                    raise RequestError(
                        f"{name} belongs to teacher={kind!r}, but got {name}={value!r} and teacher={self.teacher!r}"
                    )
        for name, fits, rule in (
            ("checkpoint", self.checkpoint in (None, *CHECKPOINTS), "must be one of 0.25, 0.5, 0.75, 1.0"),
            ("members", self.members is None or self.members >= 2, ">= 2 must hold"),
            ("average", self.average in (None, "probability", "logits"), "must be 'probability' or 'logits'"),
            ("assistant_size", self.assistant_size is None or 0 < self.assistant_size < 1, "must be in (0, 1)"),
            ("generations", self.generations is None or self.generations >= 2, ">= 2 must hold"),
            ("folds", self.folds is None or self.folds >= 2, ">= 2 must hold"),
            ("distilled", self.distilled is None or 0 < self.distilled < 1, "must be in (0, 1)"),
            ("body", self.body in (None, *BODIES), f"must be one of {', '.join(BODIES)}"),
            ("peers", self.peers is None or self.peers >= 1, ">= 1 must hold"),
            ("peer_width", self.peer_width is None or 0 < self.peer_width < math.inf, "must be in (0, inf)"),
            ("scheme", self.scheme in (None, *SCHEMES), f"must be one of {', '.join(SCHEMES)}"),
            ("soft_stop", 0 < self.soft_stop <= 1, "must be in (0, 1]"),
        ):
            if not fits:
                raise RequestError(f"{name} {rule}, but got {name}={getattr(self, name)!r}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; LATER_SETTINGS only if they are given, as in files from before them."""
        return {name: value for name, value in asdict(self).items() if name not in LATER_SETTINGS or value is not None}

    @property
    def note(self) -> str:
        """The origin of a task-agnostic student's body in words; empty for others."""
        if self.teacher != "task_agnostic":
            return ""
        then = "the whole network learned" if self.body == "tuned" else "the head alone learned"
        return f"its body learned from the pretrained encoder without labels; then {then} from labels"

    @property
    def trainings(self) -> int:
        """Number of networks in a trial's budget: generations, peers, or those of an apprentice."""
        return (2 if self.scheme == "fine_tuned" else self.generations or 1) * self.side_by_side

    @property
    def side_by_side(self) -> int:
        """Number of networks in training at the same time: the student with its peers or its teacher."""
        return 1 + (1 if self.scheme == "joint" else self.peers or 0)


def temperatures(weight_bits: int) -> tuple[float, ...]:
    """Temperatures worth searching for these bits, because high ones destroy students of few bits.

    A 3-bit student of 91 % without a teacher keeps it at temperature 1 and falls to 80 % at 5, although the same
    temperature helps its float form (Mishra, Marr 2018, arXiv 1711.05852, and its reproductions).
    """
    return (1.0, 2.0, 4.0) if weight_bits >= 8 else (1.0, 2.0)
