"""Listings of every table of names, for `nas-compress list`."""

from __future__ import annotations

import tomllib

from nas_compress.config.search_section import PRUNERS
from nas_compress.config.search_space import load_space
from nas_compress.config.shipped import shipped_folder, shipped_names
from nas_compress.data.catalogue import DATASETS
from nas_compress.devices.table import DEVICES
from nas_compress.losses.table import TERMS
from nas_compress.losses.term_kinds import FeatureTerm
from nas_compress.models.families import FAMILIES
from nas_compress.pruning.depth import KEPT_BLOCKS
from nas_compress.pruning.importance_criteria import CRITERIA
from nas_compress.pruning.ranking import RANKINGS
from nas_compress.search.samplers.table import SAMPLERS
from nas_compress.stopping.table import RULES
from nas_compress.tasks.table import TASKS
from nas_compress.values.candidate import PRUNED
from nas_compress.values.metrics.table import METRICS
from nas_compress.values.precision import METHODS, precisions
from nas_compress.values.teaching import TEACHER_SETTINGS, TEACHERS

Row = dict[str, object]

AUTO = "none for one objective, without a trained objective, or with ehvi; else behind (the default)"


def catalogue(kind: str) -> list[Row]:
    """The rows of one kind, such as families, losses or metrics."""
    tables = {
        "families": _families,
        "spaces": _spaces,
        "losses": _losses,
        "teaching": _teaching,
        "pruning": _pruning,
        "quantization": _quantization,
        "samplers": _samplers,
        "stopping": _stopping,
        "data": _data,
        "tasks": _tasks,
        "metrics": _metrics,
        "devices": _devices,
        "studies": _studies,
    }
    return tables[kind]()


def _families() -> list[Row]:
    rows: list[Row] = [
        {
            "name": name,
            "summary": family.summary,
            "base_widths": list(family.base_widths),
            "base_depths": list(family.base_depths),
            "settings": list(family.settings.defaults()),
            "source": family.source,
        }
        for name, family in FAMILIES.items()
    ]
    summary = "any torch module as the teacher: its own layers, cut by dependency groups"
    return [
        *rows,
        {
            "name": PRUNED,
            "summary": summary,
            "base_widths": [],
            "base_depths": [],
            "settings": [],
            "source": "Fang et al. 2023, arXiv 2301.12900",
        },
    ]


def _spaces() -> list[Row]:
    folder = shipped_folder("search_spaces")
    return [
        {"name": name, "summary": load_space(name, folder=folder, shipped=folder).summary}
        for name in shipped_names("search_spaces")
    ]


def _losses() -> list[Row]:
    return [
        {
            "name": name,
            "summary": term.summary,
            "needs": f"teacher {term.needs}" if isinstance(term, FeatureTerm) else term.needs,
            "settings": {key: setting.default for key, setting in term.settings.items()},
            "source": term.source,
        }
        for name, term in TERMS.items()
    ]


def _teaching() -> list[Row]:
    return [
        {"name": name, "summary": summary, "settings": dict(TEACHER_SETTINGS[name]), "source": source}
        for name, (summary, source) in TEACHERS.items()
    ]


def _pruning() -> list[Row]:
    criteria: list[Row] = [
        {"name": name, "kind": "criterion", "summary": criterion.summary, "source": criterion.source}
        for name, criterion in CRITERIA.items()
    ]
    rankings: list[Row] = [
        {"name": name, "kind": "ranking", "summary": summary, "source": ""} for name, summary in RANKINGS.items()
    ]
    blocks: list[Row] = [
        {"name": name, "kind": "kept_blocks", "summary": summary, "source": ""} for name, summary in KEPT_BLOCKS.items()
    ]
    return criteria + rankings + blocks


def _quantization() -> list[Row]:
    rows: list[Row] = [
        {"weight_bits": weights, "activation_bits": activations, "summary": _precision_summary(weights, activations)}
        for weights, activations in precisions()
    ]
    float8 = "weights stored as e4m3 floats per channel (weight_format='float8'), computed in float"
    rows.append({"weight_bits": 8, "activation_bits": 32, "summary": float8})
    shared = "indices of 2^bits shared values per layer, found by k-means and then trained (weight_format='codebook')"
    rows.append({"weight_bits": "<= 6", "activation_bits": "any", "summary": shared})
    return rows + [
        {"weight_bits": "<= 8", "activation_bits": "any", "summary": f"method={name!r}: {summary}"}
        for name, summary in METHODS.items()
    ]


def _precision_summary(weight_bits: int, activation_bits: int) -> str:
    if weight_bits == 32:
        return "float32"
    if weight_bits == 16:
        return "weights stored as 16-bit floats, computed in float32"
    levels = "the sign alone" if weight_bits == 1 else f"int{weight_bits}"
    packed = levels + (" per channel" if weight_bits == 8 else " per channel, packed into bytes")
    if activation_bits == 32:
        return f"weights stored as {packed}, computed in float"
    if activation_bits < 8:
        return f"simulated, with float kernels: weights {packed}, uint{activation_bits} activations"
    return f"integer kernels: weights {packed}, uint{activation_bits} activations"


def _samplers() -> list[Row]:
    return [
        {"name": name, "summary": kind.summary, "proposal": kind.cost, "source": kind.source}
        for name, kind in SAMPLERS.items()
    ]


def _stopping() -> list[Row]:
    pruners = {name: f"Optuna's own pruner {name}; needs search.reward" for name in PRUNERS}
    return [{"name": name, "summary": summary} for name, summary in {"auto": AUTO, **RULES, **pruners}.items()]


def _data() -> list[Row]:
    return [
        {"name": name, "summary": info.summary, "input_shape": list(info.input_shape), "source": info.source}
        for name, info in DATASETS.items()
    ]


def _tasks() -> list[Row]:
    rows: list[Row] = []
    for name, info in TASKS.items():
        signature = info.example.signature
        rows.append(
            {
                "name": name,
                "summary": info.summary,
                "inputs": [spec.name for spec in signature.inputs],
                "outputs": [spec.name for spec in signature.outputs],
                "metrics": list(info.example.metrics),
            }
        )
    return rows


def _metrics() -> list[Row]:
    return [
        {
            "name": name,
            "summary": metric.summary,
            "direction": metric.direction,
            "budget": "at_least" if metric.direction == "maximize" else "at_most",
            "known": "before training" if metric.known_before_training else "after training",
        }
        for name, metric in METRICS.items()
    ]


def _devices() -> list[Row]:
    return [{"name": name, "summary": entry.summary} for name, entry in DEVICES.items()]


def _studies() -> list[Row]:
    folder = shipped_folder("studies")
    rows: list[Row] = []
    for name in shipped_names("studies"):
        values = tomllib.loads((folder / name / "study.toml").read_text(encoding="utf-8"))
        rows.append({"name": name, "space": values["space"], "trials": values.get("trials", 24)})
    return rows
