"""Schema of a study file, with its defaults. It holds values only: structure belongs into the search space."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, Self

from pydantic import (
    Field,
    PositiveFloat,
    PositiveInt,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from nas_compress.config.device_section import DeviceName, DeviceSection, TargetSection
from nas_compress.config.metric_budget_section import BudgetSection, absolute_budgets, require_rule, resolved_budgets
from nas_compress.config.own_metrics import OwnMetrics, own_rows
from nas_compress.config.pretrained import require_teacher_words
from nas_compress.config.search_section import SearchSection
from nas_compress.config.section import Section, Seed
from nas_compress.config.tasks_section import TaskSections
from nas_compress.config.teacher_section import TeacherSection
from nas_compress.errors import RequestError, require_known
from nas_compress.values.device_settings import ENERGY, MEMORY_METRICS, P95, DeviceSettings
from nas_compress.values.file_constants import FORMS
from nas_compress.values.metrics.multi_task import SIGN, task_rows
from nas_compress.values.metrics.named_device_rows import device_rows, on_device, require_named
from nas_compress.values.metrics.row import Direction, Metric
from nas_compress.values.metrics.table import METRICS, Budget, Objective, Reward, declare_metrics

SOURCES = ("name", "factory", "folder", "text")
"""Keys of `[data]` that name the data."""

TEACHER_VOCABULARY = "teacher"
"""Value of `vocabulary` for the word pieces of the teacher."""

OF_TEXT_FILES = ("text_column", "label_column", "test_share")
"""Keys of `[data]` for files of texts."""

OF_SOUNDS = ("seconds", "mels", "speaker_part")
"""Keys of `[data]` for folders of .wav files."""

OF_IDS = ("vocabulary", "pruned_vocabulary", "hash_buckets", "max_tokens", "vocabulary_size")
"""Keys of `[data]` for the ids of texts."""

LATER_KEYS = ("text", *OF_TEXT_FILES, *OF_IDS, "labels", "unlabelled", "preprocess", *OF_SOUNDS)
"""Keys of `[data]` that are saved only if they are given."""


class SpecAugmentSection(Section):
    """`spec_augment` of `[data]`: largest masks on spectrograms, in rows and columns, and their number."""

    frequency: int = Field(default=0, ge=0)
    time: int = Field(default=0, ge=0)
    frequency_masks: PositiveInt = 2
    time_masks: PositiveInt = 2
    time_share: float = Field(default=1.0, gt=0.0, le=1.0)


class DataSection(Section):
    """`[data]`: a built-in data set by `name`, or the user's own by `factory`, `folder` or `text`.

    factory: `module:callable`. text: a CSV file, a tab-separated file or JSON lines, or a folder with such files named
    train, validation and test. text_column: columns of the text, by default `text`; several are joined by a space.
    label_column: by default `label`. Numbers from 1 name columns of a CSV file without names. test_share: share of a
    single file that becomes the test split. vocabulary: number of word pieces that are learned, by default 4,000;
    `teacher` for those of `teacher.hugging_face`, or a file with one in each line. pruned_vocabulary: true leaves out
    the given word pieces that no training text needs, for teacher and students. hash_buckets: number of ids of
    words, which the file makes from raw bytes by a hash instead of word pieces. max_tokens: word pieces or words of a
    text, by default 128; further ones are left out. unlabelled: file of texts without labels, with the columns
    `text_column`. vocabulary_size: word pieces among which students choose; the teacher has `vocabulary`. They are
    learned, or the most frequent ones of a pruned vocabulary.

    folder: pictures or .wav files in a folder for each class. A relative path starts at the study's folder, then at the
    working folder. image_size: pixels of a side of these pictures, by default 64. Of several sizes the teacher has the
    largest, and that of students is searched. seconds: length of a sound, at most 600, by default that of the longest
    file. mels: bands of its spectrogram, by default 32. speaker_part: part of the name of a .wav file, from 1, between
    underscores, that names its speaker; a drawn split then has whole speakers. task: of a factory's data, by default
    the one that follows from its targets.
    preprocess: `module:callable` of the user that returns a module to put before the normalisation of every network.
    augment: `module:callable` of the user, a function of (batch, generator) or a transform of torchvision; or
    `transfer_text` for texts that the teacher answers.
    shift, flip, crop, erase, spec_augment, mixup, cutmix: augmentation of training samples, see `data.augment`.
    views: views of each sample by seed; epoch e has view e mod `views`.
    labels: training samples that keep their label, chosen by `seed` with the share of each class. The teacher answers
    the others.
    """

    name: str | None = None
    factory: str | None = None
    folder: str | None = None
    text: str | None = None
    text_column: str | int | tuple[str | int, ...] | None = None
    label_column: str | int | None = None
    test_share: float | None = Field(default=None, gt=0.0, lt=1.0)
    vocabulary: PositiveInt | str | None = None
    pruned_vocabulary: bool | None = None
    hash_buckets: int | None = Field(default=None, ge=2, le=2_000_000)
    max_tokens: PositiveInt | None = None
    unlabelled: str | None = None
    vocabulary_size: tuple[PositiveInt, ...] = ()
    image_size: int | tuple[int, ...] | None = None
    seconds: float | None = Field(default=None, gt=0.0, le=600.0)
    mels: PositiveInt | None = None
    speaker_part: PositiveInt | None = None
    seed: Seed = 0
    shift: int | None = Field(default=None, ge=0)
    flip: bool | None = None
    crop: float | None = Field(default=None, gt=0.0, lt=1.0)
    erase: float | None = Field(default=None, gt=0.0, le=1.0)
    spec_augment: SpecAugmentSection | None = None
    mixup: PositiveFloat | None = None
    cutmix: PositiveFloat | None = None
    preprocess: str | None = None
    augment: str | None = None
    views: PositiveInt | None = None
    train_samples: PositiveInt | None = None
    labels: PositiveInt | None = None
    task: Literal["classification", "multi_label", "regression", "segmentation"] | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = [f"{key}={getattr(self, key)!r}" for key in SOURCES if getattr(self, key) is not None]
        if len(given) != 1:
            got = ", ".join(given) or "none"
            raise ValueError(f"exactly one of {', '.join(SOURCES)} must be given, but got {got}")
        for key in OF_TEXT_FILES:
            reads = self.text is not None or (key == "text_column" and self.unlabelled is not None)
            if getattr(self, key) is not None and not reads:
                raise ValueError(f"{key} needs files of texts, but got {key}={getattr(self, key)!r} without text")
        for key in OF_SOUNDS:
            if getattr(self, key) is not None and self.folder is None:
                raise ValueError(f"{key} needs a folder of .wav files, but got {key}={getattr(self, key)} without one")
        if self.image_size is not None:
            shown = list(self.image_size) if isinstance(self.image_size, tuple) else self.image_size
            if self.folder is None:
                raise ValueError(f"image_size needs a folder of pictures, but got image_size={shown} without one")
            sizes = self.image_size if isinstance(self.image_size, tuple) else (self.image_size,)
            if not sizes or len(set(sizes)) < len(sizes) or not all(4 <= size <= 1024 for size in sizes):
                raise ValueError(f"image_size must be different sizes from 4 to 1024, but got image_size={shown}")
        return self

    @property
    def image_sizes(self) -> tuple[int, ...]:
        """Sizes of pictures among which students choose, empty for a fixed size."""
        return self.image_size if isinstance(self.image_size, tuple) else ()

    @property
    def source(self) -> str:
        """Key that names the data: `name`, `factory`, `folder` or `text`."""
        return next(key for key in SOURCES if getattr(self, key) is not None)

    @property
    def augment_code(self) -> str | None:
        """The function of the user that changes samples; None without one, and for `transfer_text`."""
        return None if self.augment == "transfer_text" else self.augment

    @property
    def text_columns(self) -> tuple[str | int, ...]:
        """Columns of the text in files of texts."""
        given = ("text",) if self.text_column is None else self.text_column
        return given if isinstance(given, tuple) else (given,)

    @model_serializer(mode="wrap")
    def _given_keys(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # the form of studies from before these keys, which keeps their identity
        values: dict[str, Any] = plain(self)
        return {key: value for key, value in values.items() if key not in LATER_KEYS or value not in (None, [], ())}


class TrainingSection(Section):
    """`[training]`: the budget of each trial from scratch, a constant of the study.

    budget: `scratch_e` trains every candidate for `epochs`. `scratch_b` gives it the compute of the teacher: `epochs`
    times the teacher's macs over its own, at most `cap` times `epochs` (Liu et al. 2019, arXiv 1810.05270).
    class_weight: of losses on labels alone: `balanced`, one number for each class, or numbers by name of the class.
    sampler: `balanced` draws every class equally often, with repetition.
    precision: `bfloat16` or `float32` products in the training of teachers and students, or `auto`: bfloat16 on a GPU,
    and on a CPU that has it for enough work in a batch. Fake quantization, losses and the optimiser stay in float32.
    inherit_learning_rate: of candidates with `init = "inherit"`, by default `learning_rate`. A rate that is too small
    makes inherited weights look worse than they are (Wang et al. 2023, arXiv 2301.05219).
    """

    epochs: PositiveInt = 20
    budget: Literal["scratch_e", "scratch_b"] = "scratch_e"
    cap: float = Field(default=3.0, ge=1.0)
    batch_size: PositiveInt = 128
    learning_rate: PositiveFloat = 3e-3
    inherit_learning_rate: PositiveFloat | None = None
    weight_decay: float = Field(default=0.01, ge=0.0)
    class_weight: Literal["balanced"] | tuple[float, ...] | dict[str, float] | None = None
    sampler: Literal["shuffled", "balanced"] = "shuffled"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"

    @model_serializer(mode="wrap")
    def _given_keys(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # the form of studies from before these keys, which keeps their identity
        values: dict[str, Any] = plain(self)
        if self.class_weight is None:
            del values["class_weight"]
        if self.sampler == "shuffled":
            del values["sampler"]
        if self.precision == "auto":
            del values["precision"]
        return values


class PruningSection(Section):
    """`[pruning]`: layers of the user's own network that no candidate cuts.

    keep: names of modules, with the wildcards of a shell, such as `head.*`. A module keeps all its output channels, and
    so do the modules inside it and the layers whose channels can only be removed with theirs.
    """

    keep: tuple[str, ...] = ()


class ExportSection(Section):
    """`[export]`: the form of the files, and of their size in bytes.

    form: `onnx` for a file as onnxruntime reads it, `compressed` for the same file in an xz container. Three lines of
    Python open the container. Accuracy and latency are measured on the opened file.
    """

    form: Literal["onnx", "compressed"] = "onnx"


class StudySpec(Section):
    """A whole study file, frozen.

    devices: further devices by name; a study file writes them as `[device.NAME]`. `device` trains the networks.

    >>> StudySpec(name="mine", space="cnn", data=DataSection(name="digits")).trials
    24
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    space: str
    trials: PositiveInt = 24
    seed: Seed = 0
    objectives: tuple[str, ...] = ("accuracy", "latency_ms", "size_bytes")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    target: TargetSection = TargetSection()
    devices: dict[DeviceName, DeviceSection] = Field(default={})
    data: DataSection
    teacher: TeacherSection = TeacherSection()
    training: TrainingSection = TrainingSection()
    search: SearchSection = SearchSection()
    export: ExportSection = ExportSection()
    pruning: PruningSection = PruningSection()
    metrics: OwnMetrics = Field(default={})
    tasks: TaskSections = Field(default={})
    budgets: dict[str, BudgetSection] = Field(default={})

    @model_validator(mode="after")
    def _known_figures(self) -> Self:
        try:
            self.declare()
            for kind, names in self._named_figures.items():
                for name in names:
                    if name.partition(SIGN)[2] not in self.tasks:
                        require_named(kind, name, self.devices)
            for name in self.objectives:
                require_known("an entry of objectives", name, METRICS)
            for name in self.budgets:
                require_known("a key of budgets", name, METRICS)
            for name, section in self.budgets.items():
                require_rule(name, section)
            _ = self.budget_list, self.reward
        except RequestError as error:
            raise ValueError(str(error)) from error
        self._require_floor()
        if self.tasks and self.data.task is not None:
            raise ValueError(f"data.task must be left out with [tasks.NAME], but got {self.data.task!r}; use kind")
        for name, task in self.tasks.items():
            if task.text is not None and self.data.text is None:
                raise ValueError(f"tasks.{name}.text needs data.text, but got data.{self.data.source}")
        if self.teacher.fine_tune is not None and self.data.source != "factory":
            require_teacher_words(self.data.vocabulary, self.data.hash_buckets)
        both = sorted(set(self.tasks) & set(self.devices))
        if both:
            raise ValueError(f"tasks and devices must have different names, but got {both[0]!r} for both")
        if self.search.rungs and self.search.rungs[-1] >= self.training.epochs:
            got = f"search.rungs={list(self.search.rungs)}, training.epochs={self.training.epochs}"
            raise ValueError(f"rungs must lie below training.epochs, but got {got}")
        if self.pruning.keep and self.teacher.is_trained:
            got = f"pruning.keep={list(self.pruning.keep)} for family={self.teacher.family!r}"
            raise ValueError(f"pruning.keep needs a teacher.factory, because it names modules of it, but got {got}")
        if not self.objectives or len(set(self.objectives)) < len(self.objectives):
            raise ValueError(f"objectives must be at least one figure, each named once, but got {self.objectives}")
        return self

    def _require_floor(self) -> None:
        floor, quality = self.search.accuracy_floor, self.quality
        if floor is None:
            return
        if self.search.sampler != "ehvi" or quality is None or self.search.reward is not None:
            rule = "search.accuracy_floor needs the sampler ehvi and an objective such as accuracy, without a reward"
            raise ValueError(f"{rule}, but got sampler={self.search.sampler!r}, objectives={list(self.objectives)}")
        low, high = quality.bounds
        if not low < floor < high:
            raise ValueError(f"{low:g} < search.accuracy_floor < {high:g} ({quality.name}) must hold, but got {floor}")

    def declare(self) -> None:
        """Add the study's own metrics to the table of this process."""
        declare_metrics((*own_rows(self.metrics), *device_rows(self.devices), *task_rows(self.tasks)))

    @property
    def _named_figures(self) -> dict[str, tuple[str, ...]]:
        """Names of metrics by the words of their place, for messages."""
        reward = () if self.search.reward is None else (self.search.reward.figure,)
        return {
            "an entry of objectives": self.objectives,
            "a key of budgets": tuple(self.budgets),
            "search.reward.figure": reward,
        }

    @property
    def metric_functions(self) -> tuple[str, ...]:
        """References `module:callable` of the study's own metrics."""
        functions = (section.function for section in self.metrics.values())
        return tuple(function for function in functions if function is not None)

    @property
    def file_name(self) -> str:
        """The name of a student's file in its folder."""
        return FORMS[self.export.form]

    @property
    def device_settings(self) -> DeviceSettings:
        """The conditions of the target device. Samples per second, memory and energy are figures if named."""
        section = self.search.reward
        named = {*self.objectives, *self.budgets, *(() if section is None else (section.figure,))}
        memory = tuple(name for name in MEMORY_METRICS if name in named)
        counts = "samples_per_s" in named
        return replace(
            self.target.settings, counts_samples=counts, memory=memory, energy=ENERGY in named, p95=P95 in named
        )

    def settings_of(self, device: str) -> DeviceSettings:
        """The conditions of a named device. Samples per second and the 95th percentile are figures if named."""
        named = {*self.objectives, *self.budgets}
        counts, p95 = (on_device(name, device) in named for name in ("samples_per_s", P95))
        return replace(self.devices[device].settings, counts_samples=counts, p95=p95)

    @property
    def device_conditions(self) -> tuple[tuple[str, str], ...]:
        """The conditions of named devices in words, by name; without the default ones."""
        found = ((name, section.settings.conditions) for name, section in self.devices.items())
        return tuple((name, words) for name, words in found if words)

    @property
    def objective_list(self) -> tuple[Objective, ...]:
        """The objectives as values."""
        return tuple(Objective(name=name) for name in self.objectives)

    @property
    def quality(self) -> Metric | None:
        """The first maximised objective that training determines; None without one."""
        metrics = (objective.metric for objective in self.objective_list)
        return next((each for each in metrics if each.direction == "maximize" and not each.known_before_training), None)

    @property
    def reward(self) -> Reward | None:
        """The sampler's single number instead of the objectives, as a value."""
        section = self.search.reward
        if section is None:
            return None
        quality = "accuracy" if self.quality is None else self.quality.name
        return Reward(kind=section.kind, figure=section.figure, target=section.target, quality=quality)

    @property
    def wanted_figures(self) -> tuple[str, ...]:
        """Metrics that the study names: objectives, budgets and the quality of the reward."""
        quality = () if self.reward is None else (self.reward.quality,)
        return tuple(dict.fromkeys([*quality, *self.objectives, *self.budgets]))

    @property
    def directions(self) -> tuple[Direction, ...]:
        """The directions of the sampler's values."""
        return tuple(o.direction for o in self.objective_list) if self.reward is None else ("maximize",)

    @property
    def value_names(self) -> tuple[str, ...]:
        """The names of the sampler's values."""
        return self.objectives if self.search.reward is None else ("reward",)

    @property
    def budget_list(self) -> tuple[Budget, ...]:
        """The budgets with a limit of the file, in its order."""
        return absolute_budgets(self.budgets)

    def budgets_against(self, teacher: Mapping[str, float] | None) -> tuple[Budget, ...]:
        """Return every budget, with those relative to the teacher's figures; without these before it was measured."""
        return self.budget_list if teacher is None else resolved_budgets(self.budgets, teacher)
