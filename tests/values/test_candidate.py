import dataclasses
import itertools
import json

import pytest

from nas_compress.errors import RequestError
from nas_compress.values.candidate import (
    Candidate,
    LossTerm,
    Teaching,
    cross_entropy,
    distillation,
    label_smoothing,
)
from nas_compress.values.family_settings import ConvolutionalSettings, TransformerSettings
from nas_compress.values.precision import Precision, Quantization
from nas_compress.values.pruning import Pruning, Sparsity
from nas_compress.values.requested_shape import Shape

ZEROS = {"zero_pattern": "one_shot", "zero_fraction": 0.8}
FLOAT8 = Quantization(weight_format="float8")
CODEBOOK = Quantization(weight_format="codebook")
PLAIN = Candidate(family="resnet", depths=(1, 2, 1))
RICH = Candidate(
    family="mobilenet",
    depths=(2, 2, 2),
    width_multiplier=0.75,
    pruning_ratio=0.5,
    pruning_criterion="l1",
    weight_bits=8,
    activation_bits=8,
    losses=distillation(hard_weight=0.1, soft_weight=0.9, temperature=4.0),
    zero_pattern="one_shot",
    zero_fraction=0.5,
    factorization="tucker",
    rank_fraction=0.5,
    quantization=Quantization(ranges="mse"),
)


@pytest.mark.parametrize("candidate", [PLAIN, RICH])
def test_it_survives_json(candidate: Candidate) -> None:
    again = Candidate.from_dict(json.loads(json.dumps(candidate.to_dict())))
    assert again == candidate and hash(again) == hash(candidate) and again.fingerprint == candidate.fingerprint


def test_every_field_changes_the_fingerprint() -> None:
    others = {
        "family": "resnet",
        "depths": (2, 2, 1),
        "stem_stride": 2,
        "width_multiplier": 0.5,
        "pruning_ratio": 0.25,
        "pruning_criterion": "random",
        "weight_bits": 4,
        "activation_bits": 8,
        "losses": cross_entropy(),
        "teaching": Teaching(teacher="mutual"),
        "pruning_ranking": "local",
        "pruning_min_channels": 4,
        "round_to": 4,
        "init": "inherit",
        "zero_pattern": "gradual",
        "zero_fraction": 0.25,
        "factorization": "low_rank",
        "rank_fraction": 0.25,
        "kept_blocks": "last",
        "head_ratio": 0.25,
        "min_heads": 2,
        "quantization": Quantization(method="lsq"),
    }
    of_transformers = {
        "heads": 2,
        "mlp_ratio": 3.0,
        "patch_size": 2,
        "pooling": "mean",
        "distillation_token": True,
        "sharing": "mlp",
    }
    assert {*others, *of_transformers} == set(RICH.to_dict())
    rich = dataclasses.replace(RICH, activation_bits=32)
    changed = [dataclasses.replace(rich, **{name: value}) for name, value in others.items()]
    assert len({candidate.fingerprint for candidate in (rich, *changed)}) == 1 + len(others)
    vit = Candidate(family="vit", depths=(2,))
    changed = [dataclasses.replace(vit, **{name: value}) for name, value in of_transformers.items()]
    assert len({candidate.fingerprint for candidate in (vit, *changed)}) == 1 + len(of_transformers)


def test_flat_keywords_and_parts_make_the_same_candidate() -> None:
    parts = Candidate(
        shape=Shape(
            family="mobilenet", depths=(2, 2, 2), width_multiplier=0.75, factorization="tucker", rank_fraction=0.5
        ),
        pruning=Pruning(ratio=0.5, criterion="l1"),
        precision=Precision(weight_bits=8, activation_bits=8, quantization=Quantization(ranges="mse")),
        sparsity=Sparsity(pattern="one_shot", fraction=0.5),
        losses=distillation(hard_weight=0.1, soft_weight=0.9, temperature=4.0),
    )
    assert parts == RICH and parts.fingerprint == RICH.fingerprint
    assert dataclasses.replace(RICH, pruning=Pruning()) == dataclasses.replace(
        RICH, pruning_ratio=0.0, pruning_criterion="uniform"
    )
    assert dataclasses.replace(RICH, shape=PLAIN.shape, depths=(1,)).shape == Shape(family="resnet", depths=(1,))


def test_settings_go_with_their_family() -> None:
    strided = dataclasses.replace(PLAIN, stem_stride=2)
    assert dataclasses.replace(strided, family="mobilenet").shape.settings == ConvolutionalSettings(stem_stride=2)
    vit = dataclasses.replace(strided, family="vit", depths=(2,), heads=2)
    assert vit.shape.settings == TransformerSettings(heads=2)
    assert dataclasses.replace(vit, settings=TransformerSettings(patch_size=4), heads=8).shape.settings == (
        TransformerSettings(patch_size=4, heads=8)
    )
    with pytest.raises(RequestError, match="settings of family 'resnet' must be ConvolutionalSettings, but got Transf"):
        dataclasses.replace(PLAIN, settings=TransformerSettings())
    with pytest.raises(RequestError, match="a candidate must have a family, but got none"):
        Candidate(depths=(1,))
    with pytest.raises(TypeError, match="unexpected keyword argument 'width_multiplyer'"):
        Candidate(family="resnet", depths=(1,), width_multiplyer=2.0)


def test_equal_candidates_share_a_fingerprint_whatever_types_they_were_given_in() -> None:
    ints = Candidate(family="resnet", depths=(1, 1), width_multiplier=1, pruning_ratio=0)
    floats = Candidate(family="resnet", depths=[1.0, 1.0], stem_stride=1.0, width_multiplier=1.0, pruning_ratio=0.0)
    assert ints == floats and ints.fingerprint == floats.fingerprint
    terms = (
        LossTerm(name="kd", weight=1, settings={"b": 2, "a": 1}),
        LossTerm(name="kd", settings=(("a", 1.0), ("b", 2.0))),
    )
    assert terms[0] == terms[1] and hash(terms[0]) == hash(terms[1])
    same = [Candidate(family="resnet", depths=(1,), losses=(term,)).fingerprint for term in terms]
    assert same[0] == same[1]


def test_it_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        PLAIN.shape = RICH.shape  # type: ignore[misc]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depths": ()}, r"depths must be one or more blocks per stage, but got depths=\(\)"),
        ({"depths": (1, 0)}, r"depths=\(1, 0\)"),
        ({"depths": (1.5,)}, r"depths=\(1.5,\)"),
        ({"stem_stride": 3}, "stem_stride must be one of 1, 2, 4, but got stem_stride=3"),
        ({"width_multiplier": 0}, "0 < width_multiplier < inf must hold, but got width_multiplier=0"),
        ({"width_multiplier": float("inf")}, "got width_multiplier=inf"),
        ({"width_multiplier": float("nan")}, "got width_multiplier=nan"),
        ({"pruning_ratio": 1}, "0 <= pruning_ratio < 1 must hold, but got pruning_ratio=1"),
        ({"pruning_ratio": -0.1}, "got pruning_ratio=-0.1"),
        ({"weight_bits": 7}, "weight_bits must be one of 32, 16, 8, 6, 5, 4, 3, 2, 1, but got weight_bits=7"),
        ({"activation_bits": 16}, "activation_bits must be one of 32, 8, 4, but got activation_bits=16"),
        ({"weight_bits": 4.0}, "weight_bits must be one of .* but got weight_bits=4.0"),
        ({"weight_bits": True}, "but got weight_bits=True"),
        ({"weight_bits": "4"}, "but got weight_bits='4'"),
        ({"activation_bits": 8.0, "weight_bits": 8}, "but got activation_bits=8.0"),
        ({"quantization": {"end_bits": 4}}, r"must be a Quantization, but got quantization=\{'end_bits': 4\}"),
        ({"weight_bits": 16, "activation_bits": 8}, "but got weight_bits=16, activation_bits=8"),
        ({"quantization": FLOAT8}, "must hold for weight_format='float8', but got weight_bits=32"),
        ({"quantization": FLOAT8, "weight_bits": 8, "activation_bits": 8}, "weight_format='float8'"),
        (
            {"quantization": dataclasses.replace(FLOAT8, stage_bits=(8, 2, 2)), "weight_bits": 8},
            r"which has 8 bits everywhere, but got stage_bits=\(8, 2, 2\), end_bits=8",
        ),
        (
            {"quantization": dataclasses.replace(FLOAT8, end_bits=2), "weight_bits": 8},
            r"weight_format='float8'.* but got stage_bits=\(\), end_bits=2",
        ),
        ({"quantization": dataclasses.replace(FLOAT8, embedding_bits=4), "weight_bits": 8}, "than float8 must hold"),
        ({"quantization": Quantization(embedding_bits=4)}, "weight_bits <= 8 .* must hold if embedding_bits is given"),
        (ZEROS | {"weight_bits": 4, "quantization": Quantization(embedding_bits=1)}, r"embedding_bits=1 \(signs\)"),
        (ZEROS | {"weight_bits": 1}, r"weights that can be 0, but got weight_bits=1 \(signs\)"),
        (ZEROS | {"quantization": Quantization(stage_bits=(1, 1, 2))}, r"but got stage_bits=\(1, 1, 2\) \(signs\)"),
        (ZEROS | {"weight_bits": 4, "quantization": Quantization(end_bits=1)}, r"but got end_bits=1 \(signs\)"),
        ({"quantization": CODEBOOK, "weight_bits": 8}, "weight_bits < 8 must hold for weight_format='codebook'"),
        ({"quantization": Quantization(stage_bits=(2, 4))}, r"one entry per stage \(3\), but got stage_bits=\(2, 4\)"),
        (
            {"quantization": dataclasses.replace(CODEBOOK, end_bits=4), "weight_bits": 16},
            "weight_bits < 8 must hold for weight_format='codebook'",
        ),
        (
            {"quantization": Quantization(promoted_layers=2), "weight_bits": 8},
            "weight_bits < 8 must hold",
        ),
        ({"quantization": Quantization(method="lsq")}, "weight_bits <= 8 must hold for method='lsq'"),
        ({"min_heads": 0}, "min_heads must be a whole number of at least 1, but got min_heads=0"),
        ({"heads": 2}, "heads is a setting of vit and encoder, but got heads=2 for family 'resnet'"),
        ({"losses": ()}, "losses must name at least one term"),
        ({"losses": (LossTerm(name="kd"), LossTerm(name="kd", weight=2))}, "each term once, but got kd, kd"),
    ],
)
def test_what_cannot_be_is_refused_with_rule_and_value(change: dict[str, object], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        dataclasses.replace(PLAIN, **change)


def test_distillation_leaves_out_a_term_of_no_weight() -> None:
    assert distillation(hard_weight=1, soft_weight=0, temperature=4) == cross_entropy()
    (only,) = distillation(hard_weight=0, soft_weight=2, temperature=4)
    assert (only.name, only.weight, only.setting("temperature")) == ("kd", 2.0, 4.0)
    assert label_smoothing(0.2)[0].setting("smoothing") == 0.2
    with pytest.raises(KeyError):
        only.setting("smoothing")


@pytest.mark.parametrize(("hard", "soft"), [(0, 0), (-1, 2), (2, -1)])
def test_weights_that_teach_nothing_are_refused(hard: float, soft: float) -> None:
    with pytest.raises(RequestError, match=f"hard_weight={hard}, soft_weight={soft}"):
        distillation(hard_weight=hard, soft_weight=soft, temperature=4)


@pytest.mark.parametrize("weight", [0, -1, float("nan"), float("inf")])
def test_a_term_has_a_weight(weight: float) -> None:
    with pytest.raises(RequestError, match="0 < weight < inf must hold for loss 'kd', but got weight="):
        LossTerm(name="kd", weight=weight)


@pytest.mark.parametrize(
    ("field", "value", "nearest"),
    [("method", "lqs", "lsq"), ("ranges", "minmax", "min_max"), ("weight_format", "float", "float8")],
)
def test_an_unknown_way_to_quantize_names_the_nearest(field: str, value: str, nearest: str) -> None:
    with pytest.raises(RequestError, match=f"but got '{value}'; did you mean '{nearest}'"):
        Quantization(**{field: value})


def test_a_candidate_from_before_quantization_had_ways_is_read() -> None:
    values = {name: value for name, value in RICH.to_dict().items() if name != "quantization"}
    assert Candidate.from_dict(values) == dataclasses.replace(RICH, quantization=Quantization())


def test_bits_of_tables_are_saved_where_they_differ_from_those_of_the_layers() -> None:
    tables = dataclasses.replace(RICH, weight_bits=5, quantization=Quantization(embedding_bits=4))
    assert Candidate.from_dict(tables.to_dict()) == tables and tables.to_dict()["quantization"]["embedding_bits"] == 4
    same = dataclasses.replace(RICH, weight_bits=4, quantization=Quantization(embedding_bits=4))
    assert same == dataclasses.replace(RICH, weight_bits=4, quantization=Quantization())
    assert "embedding_bits" not in same.to_dict()["quantization"]  # fingerprints of earlier candidates stay


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("stage_bits", (2, 7), r"stage_bits must be among 8, 6, 5, 4, 3, 2, 1, but got stage_bits=\(2, 7\)"),
        ("end_bits", 16, "end_bits must be among 8, 6, 5, 4, 3, 2, 1, but got end_bits=16"),
        ("stage_bits", 4, "stage_bits must be a tuple of one width per stage, but got stage_bits=4"),
        ("stage_bits", (2, 4.0), r"but got stage_bits=\(2, 4.0\)"),
        ("end_bits", 4.0, "end_bits must be among .* but got end_bits=4.0"),
        ("embedding_bits", 16, "embedding_bits must be among 8, 6, 5, 4, 3, 2, 1, but got embedding_bits=16"),
        ("promoted_layers", 1.5, "promoted_layers must be a whole number, but got promoted_layers=1.5"),
        ("promoted_layers", -1, "promoted_layers >= 0 must hold, but got promoted_layers=-1"),
    ],
)
def test_bits_of_parts_are_checked(field: str, value: object, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        Quantization(**{field: value})


def test_ranges_tell_candidates_apart_only_where_there_is_something_to_choose() -> None:
    def fingerprints(weight_bits: int, activation_bits: int, **settings: str) -> list[str]:
        ways = [Quantization(ranges=ranges, **settings) for ranges in ("min_max", "percentile", "mse")]
        made = [
            dataclasses.replace(PLAIN, weight_bits=weight_bits, activation_bits=activation_bits, quantization=way)
            for way in ways
        ]
        return [candidate.fingerprint for candidate in made]

    assert len(set(fingerprints(8, 8))) == len(set(fingerprints(4, 8, method="lsq"))) == 3
    rounded = fingerprints(8, 32)
    assert rounded[0] == rounded[1] != rounded[2]  # `mse` scales weights too
    for alike in (fingerprints(4, 32, method="ste"), fingerprints(16, 32), fingerprints(8, 32, weight_format="float8")):
        assert len(set(alike)) == 1
    assert [Quantization(method=method).ranges for method in ("calibrate", "lsq", "ste")] == ["min_max", "mse", "mse"]


def test_stages_of_equal_bits_are_one_width_and_others_keep_their_widest() -> None:
    equal, mixed = (
        dataclasses.replace(PLAIN, activation_bits=8, weight_bits=8, quantization=Quantization(stage_bits=bits))
        for bits in ((4, 4, 4), (2, 6, 4))
    )
    assert equal == dataclasses.replace(PLAIN, activation_bits=8, weight_bits=4)
    assert (mixed.precision.weight_bits, mixed.precision.quantization.stage_bits) == (6, (2, 6, 4))
    assert Candidate.from_dict(json.loads(json.dumps(mixed.to_dict()))) == mixed
    assert hash(mixed) == hash(dataclasses.replace(mixed))


def test_every_draw_of_bits_for_each_stage_is_a_candidate() -> None:
    ways = (
        Quantization(method="lsq"),
        dataclasses.replace(CODEBOOK, promoted_layers=2),
        dataclasses.replace(CODEBOOK, end_bits=4, method="lsq"),
    )
    for way, bits in itertools.product(ways, itertools.product((8, 4, 1), repeat=3)):
        drawn = dataclasses.replace(PLAIN, quantization=dataclasses.replace(way, stage_bits=bits))
        assert drawn.precision.weight_bits == max(bits) and Candidate.from_dict(drawn.to_dict()) == drawn
        if bits == (8, 8, 8):
            kind = "integer" if way.end_bits == 8 else way.weight_format
            plain = dataclasses.replace(way, promoted_layers=0, weight_format=kind)
            assert drawn == dataclasses.replace(PLAIN, weight_bits=8, quantization=plain)
            assert drawn.precision.number_format == "int8 weights"


def test_of_two_shared_values_one_can_be_zero() -> None:
    sparse = dataclasses.replace(PLAIN, **ZEROS, weight_bits=1, quantization=CODEBOOK)
    assert (sparse.sparsity.fraction, sparse.precision.number_format) == (0.8, "1-bit codebook weights")
