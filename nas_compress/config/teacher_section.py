"""Section `[teacher]` of a study file."""

from __future__ import annotations

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

from nas_compress.config.section import Section, Seed
from nas_compress.errors import RequestError, require_known
from nas_compress.values.family_settings import (
    SETTINGS,
    FamilySettings,
    family_settings,
    flat_settings,
    teacher_setting_names,
)

LATER_KEYS = ("weights_key", "output", "timm", "hugging_face", "fine_tune")
"""Keys of `[teacher]` that are saved only if they are given."""

SOURCES = ("factory", "timm", "hugging_face")
"""Keys of `[teacher]` that name a module of the user."""


class TeacherSection(Section):
    """`[teacher]`: a family trained once, or a network of the user.

    The user's network is a module by `factory`, `timm` (a name) or `hugging_face` (a folder) with its `weights`, or an
    ONNX or TorchScript file by `weights` alone. Nothing is downloaded.

    settings: of the family, as keys of the section in the file; see `values.family_settings`. The family chooses open
    ones.

    weights_key: of the state dict in the file of weights, such as `ema`. By default it is found by the module's names.

    fine_tune: layers of the encoder in `hugging_face` that are trained on the data: `all`, or the number of upper ones.
    The file then needs no further keys, because `config.pretrained` finds them. Lower layers run once for each sample.

    output: name or place of the output to learn from, if the network returns several.

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
    timm: str | None = None
    hugging_face: str | None = None
    fine_tune: Literal["all"] | Annotated[int, Field(ge=0)] | None = None
    output: str | int | None = None
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

    @property
    def is_trained(self) -> bool:
        """True if the study trains its teacher, False for a network of the user."""
        return self.fine_tune is not None or all(getattr(self, name) is None for name in (*SOURCES, "weights"))

    @property
    def gives_answers_only(self) -> bool:
        """True for an ONNX or TorchScript file, which has no layers for features or pruning."""
        return self.weights is not None and all(getattr(self, name) is None for name in SOURCES)

    @property
    def source(self) -> str:
        """The key and value that name the network, such as `factory = my_models:build`."""
        name = next((name for name in (*SOURCES, "weights") if getattr(self, name) is not None), "family")
        return f"{name} = {getattr(self, name)}"

    def _require_fine_tuning(self) -> None:
        if self.fine_tune is None:
            return
        if self.hugging_face is None or self.weights is not None or self.family != "encoder":
            got = f"hugging_face={self.hugging_face!r}, weights={self.weights!r}, family={self.family!r}"
            raise ValueError(f"fine_tune needs hugging_face alone, with family='encoder', but got {got}")
        if isinstance(self.fine_tune, int) and self.depths is not None and self.fine_tune > self.depths[0]:
            got = f"fine_tune={self.fine_tune} for depths={list(self.depths)}"
            raise ValueError(f"fine_tune must be 'all' or a number of layers that there are, but got {got}")

    @model_validator(mode="after")
    def _factory_with_weights(self) -> Self:
        given = {name: getattr(self, name) for name in SOURCES if getattr(self, name) is not None}
        if len(given) > 1:
            raise ValueError(f"only one of {', '.join(SOURCES)} may be given, but got {', '.join(given)}")
        if self.weights is None and given and self.hugging_face is None:
            got = ", ".join(f"{name}={value!r}" for name, value in given.items())
            raise ValueError(f"factory and weights must be given together, timm and weights too, but got {got} alone")
        if self.weights_key is not None and not given:
            raise ValueError(f"weights_key needs one of {', '.join(SOURCES)}, but got weights_key={self.weights_key!r}")
        self._require_fine_tuning()
        if self.output is not None and self.is_trained:
            raise ValueError(f"output needs a network of the user, but got output={self.output!r} for a trained family")
        if self.features and not given:
            got = f"features={list(self.features)}" + f" for family={self.family!r}" * self.is_trained
            raise ValueError(f"features need a teacher.factory, because a family names its own, but got {got}")
        if not self.is_trained and self.bn_sparsity > 0:
            raise ValueError(f"bn_sparsity needs a teacher that is trained here, but got {self.source}")
        if self.widths is not None and self.depths is not None and len(self.widths) != len(self.depths):
            got = f"widths={list(self.widths)}, depths={list(self.depths)}"
            raise ValueError(f"widths and depths must have one entry per stage each, but got {got}")
        return self
