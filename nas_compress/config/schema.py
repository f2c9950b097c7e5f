"""Schema of a study file, with its defaults. It holds values only: structure belongs into the search space."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    PositiveFloat,
    PositiveInt,
    SerializerFunctionWrapHandler,
    SkipValidation,
    field_validator,
    model_serializer,
    model_validator,
)

from nas_compress.config.budget_section import BudgetSection, absolute_budgets, require_rule, resolved_budgets
from nas_compress.config.own_metrics import OwnMetrics, own_rows
from nas_compress.config.search_section import SearchSection
from nas_compress.config.section import Section, Seed
from nas_compress.errors import RequestError, require_known
from nas_compress.values.device_settings import ALIASES, DEFAULT_SETTINGS, DeviceSettings
from nas_compress.values.family_settings import (
    SETTINGS,
    FamilySettings,
    family_settings,
    flat_settings,
    teacher_setting_names,
)
from nas_compress.values.file_contract import FORMS
from nas_compress.values.metric import Direction
from nas_compress.values.metrics import METRICS, Budget, Objective, Reward, declare_metrics


class SpecAugmentSection(Section):
    """`spec_augment` of `[data]`: largest masks on spectrograms, in rows and columns, and their number."""

    frequency: int = Field(default=0, ge=0)
    time: int = Field(default=0, ge=0)
    frequency_masks: PositiveInt = 2
    time_masks: PositiveInt = 2
    time_share: float = Field(default=1.0, gt=0.0, le=1.0)


class DataSection(Section):
    """`[data]`: a built-in data set by `name`, or the user's own by `factory = "module:callable"` or by `folder`.

    folder: pictures in a folder for each class. A relative path starts at the study's folder, then at the working
    folder. image_size: pixels of a side of these pictures, by default 64; it is not searched, because teacher and
    students must have the same inputs. task: of a factory's data, by default the one that follows from its targets.
    augment: `module:callable` of the user, a function of (batch, generator) or a transform of torchvision.
    shift, flip, crop, erase, spec_augment, mixup, cutmix: augmentation of training samples, see `data.augment`.
    views: views of each sample by seed; epoch e has view e mod `views`.
    """

    name: str | None = None
    factory: str | None = None
    folder: str | None = None
    image_size: int | None = Field(default=None, ge=4, le=1024)
    seed: Seed = 0
    shift: int | None = Field(default=None, ge=0)
    flip: bool | None = None
    crop: float | None = Field(default=None, gt=0.0, lt=1.0)
    erase: float | None = Field(default=None, gt=0.0, le=1.0)
    spec_augment: SpecAugmentSection | None = None
    mixup: PositiveFloat | None = None
    cutmix: PositiveFloat | None = None
    augment: str | None = None
    views: PositiveInt | None = None
    train_samples: PositiveInt | None = None
    task: Literal["classification", "multi_label", "regression", "segmentation"] | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if [self.name, self.factory, self.folder].count(None) != 2:
            got = f"name={self.name!r}, factory={self.factory!r}, folder={self.folder!r}"
            raise ValueError(f"exactly one of name, factory and folder must be given, but got {got}")
        if self.image_size is not None and self.folder is None:
            raise ValueError(f"image_size needs a folder of pictures, but got image_size={self.image_size} without one")
        return self

    @property
    def source(self) -> str:
        """Key that names the data: `name`, `factory` or `folder`."""
        return next(key for key in ("name", "factory", "folder") if getattr(self, key) is not None)


LATER_KEYS = ("weights_key",)
"""Keys of `[teacher]` that are saved only if they are given."""


class TeacherSection(Section):
    """`[teacher]`: a family trained once, or the user's module by `factory` with its `weights`.

    settings: of the family, as keys of the section in the file; see `values.family_settings`. The family chooses open
    ones.

    weights_key: of the state dict in the file of weights, such as `ema`. By default it is found by the module's names.

    features: modules of the user's own network, in forward order. Their outputs are its stages in feature losses.
    Modules named `stem` or `embedding` count as before the first stage.

    bn_sparsity: weight of the sum of all absolute batch normalisation scales in the teacher's loss. It prepares the
    criterion `bn_scale` (network slimming, Liu et al. 2017, arXiv 1708.06519).
    """

    family: str = "resnet"
    widths: tuple[PositiveInt, ...] | None = None
    depths: tuple[PositiveInt, ...] | None = Field(default=None, min_length=1)
    settings: Annotated[FamilySettings, SkipValidation] = FamilySettings()
    epochs: PositiveInt = 30
    learning_rate: PositiveFloat = 3e-3
    seed: Seed = 0
    factory: str | None = None
    weights: str | None = None
    weights_key: str | None = None
    features: tuple[str, ...] = ()
    bn_sparsity: float = Field(default=0.0, ge=0.0)

    @classmethod
    def key_names(cls) -> list[str]:
        """Keys of the section in a file, with the settings of families."""
        return [name for name in cls.model_fields if name != "settings"] + list(teacher_setting_names())

    @model_validator(mode="before")
    @classmethod
    def _settings_from_keys(cls, values: Any) -> Any:
        if not isinstance(values, dict) or not isinstance(values.get("family", ""), str):
            return values
        if "settings" in values and not isinstance(values["settings"], FamilySettings):
            raise ValueError("settings must be keys of the section itself, but got settings")
        family = values.get("family", cls.model_fields["family"].default)
        if family not in SETTINGS:
            return values
        names = teacher_setting_names()
        given = {name: value for name, value in values.items() if name in names}
        try:
            settings = values.get("settings", family_settings(family, given))
        except RequestError as error:
            raise ValueError(str(error)) from error
        # the result is validated in strict Python mode, which refuses a list for a tuple
        plain = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
        return {name: value for name, value in plain.items() if name not in names} | {"settings": settings}

    @field_validator("family")
    @classmethod
    def _known_family(cls, family: str) -> str:
        try:
            require_known("a family", family, SETTINGS)
        except RequestError as error:
            raise ValueError(str(error)) from error
        return family

    @model_serializer(mode="wrap")
    def _settings_as_keys(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = plain(self)
        del values["settings"]
        for name in LATER_KEYS:  # keeps the identity of studies and teachers from before these keys
            if values[name] is None:
                del values[name]
        return values | {
            name: value for name, value in flat_settings(self.settings).items() if name in teacher_setting_names()
        }

    @model_validator(mode="after")
    def _factory_with_weights(self) -> Self:
        if (self.factory is None) != (self.weights is None):
            got = f"factory={self.factory!r}, weights={self.weights!r}"
            raise ValueError(f"factory and weights must be given together, but got {got}")
        if self.weights_key is not None and self.weights is None:
            raise ValueError(f"weights_key needs teacher.weights, but got weights_key={self.weights_key!r} alone")
        if self.features and self.factory is None:
            got = f"features={list(self.features)} for family={self.family!r}"
            raise ValueError(f"features need a teacher.factory, because a family names its own, but got {got}")
        if self.factory is not None and self.bn_sparsity > 0:
            raise ValueError(f"bn_sparsity needs a teacher that is trained here, but got factory={self.factory!r}")
        if self.widths is not None and self.depths is not None and len(self.widths) != len(self.depths):
            got = f"widths={list(self.widths)}, depths={list(self.depths)}"
            raise ValueError(f"widths and depths must have one entry per stage each, but got {got}")
        return self


class TrainingSection(Section):
    """`[training]`: the budget of each trial from scratch, a constant of the study.

    budget: `scratch_e` trains every candidate for `epochs`. `scratch_b` gives it the compute of the teacher: `epochs`
    times the teacher's macs over its own, at most `cap` times `epochs` (Liu et al. 2019, arXiv 1810.05270).
    class_weight: of losses on labels alone: `balanced`, one number for each class, or numbers by name of the class.
    sampler: `balanced` draws every class equally often, with repetition.
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

    @model_serializer(mode="wrap")
    def _given_keys(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # the form of studies from before these keys, which keeps their identity
        values: dict[str, Any] = plain(self)
        if self.class_weight is None:
            del values["class_weight"]
        if self.sampler == "shuffled":
            del values["sampler"]
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


class TargetSection(Section):
    """`[target]`: the device of the latencies and their conditions. `target = "name"` chooses the device alone.

    name: of `nas-compress list devices`.
    threads, batch, percentile, providers: see `values.device_settings`. Each value has latencies of its own.
    """

    name: str = "onnxruntime_cpu"
    threads: PositiveInt = DEFAULT_SETTINGS.threads
    batch: PositiveInt = DEFAULT_SETTINGS.batch
    percentile: str = DEFAULT_SETTINGS.percentile
    providers: tuple[str, ...] = DEFAULT_SETTINGS.providers

    @property
    def settings(self) -> DeviceSettings:
        """The conditions as a value."""
        return DeviceSettings(
            threads=self.threads, batch=self.batch, percentile=self.percentile, providers=self.providers
        )

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, values: Any) -> Any:
        if isinstance(values, str):
            return {"name": values}
        # the result is validated in strict Python mode, which refuses a list for a tuple
        if isinstance(values, dict) and isinstance(values.get("providers"), list):
            return {**values, "providers": tuple(values["providers"])}
        return values

    @field_validator("percentile")
    @classmethod
    def _one_name(cls, percentile: str) -> str:
        return ALIASES.get(percentile, percentile)

    @model_validator(mode="after")
    def _known_values(self) -> Self:
        try:
            _ = self.settings
        except RequestError as error:
            raise ValueError(str(error)) from error
        return self

    @model_serializer(mode="wrap")
    def _name_alone(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any] | str:
        # the form of studies from before the settings, which keeps their identity
        values: dict[str, Any] = plain(self)
        return self.name if self.settings.are_default else values


class StudySpec(Section):
    """A whole study file, frozen.

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
    data: DataSection
    teacher: TeacherSection = TeacherSection()
    training: TrainingSection = TrainingSection()
    search: SearchSection = SearchSection()
    export: ExportSection = ExportSection()
    pruning: PruningSection = PruningSection()
    metrics: OwnMetrics = Field(default={})
    budgets: dict[str, BudgetSection] = Field(default={})

    @model_validator(mode="after")
    def _known_figures(self) -> Self:
        try:
            self.declare()
            for name in self.objectives:
                require_known("an entry of objectives", name, METRICS)
            for name in self.budgets:
                require_known("a key of budgets", name, METRICS)
            for name, section in self.budgets.items():
                require_rule(name, section)
            _ = self.budget_list, self.reward
        except RequestError as error:
            raise ValueError(str(error)) from error
        if self.search.rungs and self.search.rungs[-1] >= self.training.epochs:
            got = f"search.rungs={list(self.search.rungs)}, training.epochs={self.training.epochs}"
            raise ValueError(f"rungs must lie below training.epochs, but got {got}")
        if self.pruning.keep and self.teacher.factory is None:
            got = f"pruning.keep={list(self.pruning.keep)} for family={self.teacher.family!r}"
            raise ValueError(f"pruning.keep needs a teacher.factory, because it names modules of it, but got {got}")
        if not self.objectives or len(set(self.objectives)) < len(self.objectives):
            raise ValueError(f"objectives must be at least one figure, each named once, but got {self.objectives}")
        return self

    def declare(self) -> None:
        """Add the study's own metrics to the table of this process."""
        declare_metrics(own_rows(self.metrics))

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
        """The conditions of the target device. Samples per second are counted if the study names them."""
        named = {*self.objectives, *self.budgets}
        return replace(self.target.settings, counts_samples="samples_per_s" in named)

    @property
    def objective_list(self) -> tuple[Objective, ...]:
        """The objectives as values."""
        return tuple(Objective(name=name) for name in self.objectives)

    @property
    def reward(self) -> Reward | None:
        """The sampler's single number instead of the objectives, as a value."""
        section = self.search.reward
        if section is None:
            return None
        learned = [o.metric for o in self.objective_list if not o.metric.known_before_training]
        quality = next((metric.name for metric in learned if metric.direction == "maximize"), "accuracy")
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
