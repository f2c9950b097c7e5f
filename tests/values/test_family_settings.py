"""Settings of families: their ranges, their owners, and their flat form."""

from __future__ import annotations

import pytest

from nas_compress.errors import RequestError
from nas_compress.values.family_settings import (
    PRUNED,
    PUBLISHED,
    SETTINGS,
    ConvolutionalSettings,
    FamilySettings,
    TransformerSettings,
    family_settings,
    flat_settings,
    teacher_setting_names,
)

EVERY = {
    "stem_stride": 2,
    "heads": 2,
    "mlp_ratio": 3.0,
    "patch_size": 4,
    "pooling": "mean",
    "distillation_token": True,
    "sharing": "all",
}


@pytest.mark.parametrize("family", SETTINGS)
def test_a_family_takes_its_own_settings_and_refuses_those_of_others(family: str) -> None:
    own = SETTINGS[family].defaults()
    for name, value in EVERY.items():
        if name in own:
            assert getattr(family_settings(family, {name: value}), name) == value
        else:
            with pytest.raises(RequestError, match=f"{name} is a setting of .*, but got {name}=.* for family"):
                family_settings(family, {name: value})


def test_defaults_of_other_families_are_no_settings() -> None:
    assert family_settings("resnet", PUBLISHED) == ConvolutionalSettings()
    assert family_settings("vit", PUBLISHED) == TransformerSettings()
    assert family_settings(PRUNED, PUBLISHED) == FamilySettings()
    with pytest.raises(
        RequestError, match="stem_stride is a setting of resnet, mobilenet, conv1d and unet, but got stem_stride=2"
    ):
        family_settings(PRUNED, {"stem_stride": 2})


def test_unknown_families_and_settings_name_the_nearest() -> None:
    with pytest.raises(RequestError, match=r"a family must be a known name, but got 'resnett' \(here\); did you mean"):
        family_settings("resnett", {}, "here")
    with pytest.raises(RequestError, match=r"a setting of a family must be a known name, but got 'head'; .* 'heads'"):
        family_settings("vit", {"head": 2})


def test_the_flat_form_holds_every_published_setting() -> None:
    chosen = TransformerSettings(heads=2, sharing="mlp")
    assert set(EVERY) == set(PUBLISHED) == set(flat_settings(chosen))
    assert flat_settings(chosen) == PUBLISHED | {"heads": 2, "sharing": "mlp"}
    assert family_settings("vit", flat_settings(chosen)) == chosen


def test_without_a_teacher_the_token_goes_and_the_rest_stays() -> None:
    chosen = TransformerSettings(heads=2, distillation_token=True)
    assert chosen.without_teacher() == TransformerSettings(heads=2)
    assert ConvolutionalSettings(stem_stride=2).without_teacher() == ConvolutionalSettings(stem_stride=2)
    assert set(EVERY) - set(teacher_setting_names()) == {"distillation_token", "sharing"}


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (ConvolutionalSettings, {"stem_stride": 3}, "stem_stride must be one of 1, 2, 4, but got stem_stride=3"),
        (ConvolutionalSettings, {"stem_stride": True}, "but got stem_stride=True"),
        (ConvolutionalSettings, {"stem_stride": "2"}, "but got stem_stride='2'"),
        (TransformerSettings, {"heads": 0}, "heads must be a whole number of at least 1, but got heads=0"),
        (TransformerSettings, {"heads": 1.5}, "got heads=1.5"),
        (TransformerSettings, {"heads": "4"}, "got heads='4'"),
        (TransformerSettings, {"patch_size": -2}, "patch_size must be a whole number of at least 1, but got"),
        (TransformerSettings, {"patch_size": float("inf")}, "got patch_size=inf"),
        (TransformerSettings, {"mlp_ratio": 0}, "0 < mlp_ratio < inf must hold, but got mlp_ratio=0"),
        (TransformerSettings, {"mlp_ratio": float("nan")}, "got mlp_ratio=nan"),
        (
            TransformerSettings,
            {"pooling": "means"},
            "pooling must be a known name, but got 'means'; did you mean",
        ),
        (TransformerSettings, {"sharing": "both"}, "sharing must be a known name, but got 'both'"),
        (TransformerSettings, {"distillation_token": 1}, "must be true or false, but got distillation_token=1"),
    ],
)
def test_values_out_of_range_are_refused(kind: type[FamilySettings], values: dict[str, object], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        kind(**values)


def test_equal_values_are_one_value_whatever_their_type() -> None:
    assert repr(TransformerSettings(heads=2.0, mlp_ratio=3)) == repr(TransformerSettings(heads=2, mlp_ratio=3.0))
    assert repr(ConvolutionalSettings(stem_stride=2.0)) == repr(ConvolutionalSettings(stem_stride=2))
