"""A page for each method, from the tables of the tool and the docstrings of their entries."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nas_compress.config.shipped import shipped_folder, shipped_names
from nas_compress.losses.table import TERMS
from nas_compress.losses.term_kinds import FeatureLoss, FeatureTerm, Setting, TaskTerm, Term
from nas_compress.models.families import FAMILIES, build_student
from nas_compress.models.macs import count_macs
from nas_compress.pruning.depth import KEPT_BLOCKS
from nas_compress.pruning.importance_criteria import CRITERIA
from nas_compress.pruning.ranking import RANKINGS
from nas_compress.search.samplers.table import SAMPLERS
from nas_compress.stopping.table import RULES, make_rule
from nas_compress.tasks.batch import zeros
from nas_compress.tasks.task import Task
from nas_compress.values.architecture import Architecture, Width
from nas_compress.values.normalisation import Normalisation
from nas_compress.values.precision import METHODS
from nas_compress.values.signature import Signature, TensorSpec
from nas_compress.values.teaching import TEACHER_SETTINGS, TEACHERS


@dataclass(frozen=True, kw_only=True)
class Method:
    """Content of a page.

    use: the lines of a study file (toml) or a space (python) that select the method.
    settings: rows of name, default and range. docs: docstrings.
    """

    name: str
    summary: str
    source: str
    cost: str
    use: str
    language: str = "python"
    settings: tuple[tuple[str, str, str], ...] = ()
    docs: tuple[str, ...] = ()

    def page(self) -> str:
        """Return the page as Markdown."""
        lines = [f"# {self.name}", "", _sentence(self.summary), ""]
        lines += [
            f"**Source:** {linked(self.source) or 'this project or common knowledge'}",
            "",
            f"**Cost:** {self.cost}",
        ]
        lines += ["", f"```{self.language}", self.use, "```"]
        if self.settings:
            lines += ["", "| setting | default | range |", "|---|---|---|"]
            lines += [f"| `{key}` | {default} | {span} |" for key, default, span in self.settings]
        for doc in self.docs:
            lines += ["", docstring(doc)]
        return "\n".join(lines) + "\n"


def method_pages() -> dict[str, list[Method]]:
    """Return every method by its kind."""
    return {
        "families": list(_families()),
        "losses": list(_losses()),
        "teaching": list(_teaching()),
        "pruning": list(_pruning()),
        "quantization": list(_quantization()),
        "samplers": list(_samplers()),
        "stopping": list(_stopping()),
        "spaces": list(_spaces()),
    }


def linked(source: str) -> str:
    """Return the source with links for arXiv numbers and DOIs."""
    text = re.sub(r"arXiv (\d{4}\.\d{4,5})", r"[arXiv \1](https://arxiv.org/abs/\1)", source)
    return re.sub(r"doi (10\.\S+[^\s,.)])", r"[doi \1](https://doi.org/\1)", text)


def docstring(text: str) -> str:
    """Return a docstring as Markdown, with examples as code blocks."""
    lines, inside = [], False
    for line in inspect.cleandoc(text).splitlines():
        example = line.lstrip().startswith((">>>", "...")) or (inside and bool(line.strip()))
        if example != inside:
            lines += ["```pycon" if example else "```"]
        lines.append(line)
        inside = example
    return linked("\n".join([*lines, *(["```"] if inside else [])]))


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def _losses() -> Iterator[Method]:
    for name, term in TERMS.items():
        given = {key: setting.default for key, setting in term.settings.items()}
        numbers = ", ".join(f'"{key}": {value:g}' for key, value in given.items())
        more = f",\n    settings={{{numbers}}},\n" if given else ""
        first = "\n    " if given else ""
        yield Method(
            name=name,
            summary=term.summary,
            source=term.source,
            cost=_loss_cost(term),
            use=f'LossTerm({first}name="{name}", weight=1.0{more})',
            settings=tuple((key, f"{setting.default:g}", _span(setting)) for key, setting in term.settings.items()),
            docs=_loss_docs(name, term),
        )


def _loss_cost(term: Term) -> str:
    if isinstance(term, FeatureTerm):
        return f"one pass of the teacher per batch, shared by all terms on features; reads {term.needs} of both"
    if term.needs_teacher:
        return "no pass of the teacher: its answers come from a cache shared by all trials"
    return "that of plain training, without a teacher"


def _span(setting: Setting) -> str:
    span = f"{setting.above:g} to {setting.below:g}, without the ends"
    return f"{span}, or 0 ({setting.zero})" if setting.zero else span


def _loss_docs(name: str, term: Term) -> tuple[str, ...]:
    if isinstance(term, TaskTerm):
        return (inspect.getdoc(TaskTerm) or "", inspect.getdoc(Task.base_loss) or "")
    return _implementation(term.loss if isinstance(term, FeatureTerm) else term.function, name)


def _implementation(made: Callable[..., Any], name: str) -> tuple[str, ...]:
    """Docstrings of a loss: its module, itself, its base class, and the function of the term's name."""
    module = sys.modules[made.__module__]
    bases = [made, *made.__bases__] if isinstance(made, type) else [made]
    same = getattr(module, name, made)
    values = [module, *(base for base in bases if base is not FeatureLoss), *([same] if same is not made else [])]
    return tuple(inspect.getdoc(value) or "" for value in values)


WORDS = 32
"""Tokens of a sample, for the costs of families of tokens."""

SHOWN = {
    words: Signature(
        inputs=(TensorSpec(name="input", dtype=dtype, shape=("N", *shape)),),
        outputs=(TensorSpec(name="logits", dtype="float32", shape=("N", 10, *pixels)),),
    )
    for words, dtype, shape, pixels in (
        ("on 8 x 8 pixels", "uint8", (1, 8, 8), ()),
        ("on 32 steps of 3 channels", "float32", (3, 32), ()),
        ("on 16 columns", "float32", (16,), ()),
        ("on 8 x 8 pixels with a class each", "uint8", (1, 8, 8), (8, 8)),
    )
} | {f"on {WORDS} tokens of 1,000": Signature.of_tokens(vocabulary=1000, classes=10)}
"""Inputs and outputs for the costs of families; each family takes the first ones that it fits."""


def _families() -> Iterator[Method]:
    for name, family in FAMILIES.items():
        layers = family.layers(family.base_depths, family.base_widths)
        words, signature = next(pair for pair in SHOWN.items() if family.fits(pair[1]))
        asked = Architecture(
            family=name,
            signature=signature,
            normalisation={"input": Normalisation(mean=0, std=1.0)},
            depths=family.base_depths,
            widths=tuple(Width(layer=layer, asked=base, channels=base) for layer, base in layers),
        )
        network = build_student(asked)
        parameters = sum(parameter.numel() for parameter in network.parameters())
        macs = count_macs(network, zeros(asked.signature.inputs, 1, free=WORDS))
        module = sys.modules[type(network).__module__]
        yield Method(
            name=name,
            summary=family.summary,
            source=family.source,
            cost=f"{parameters:,} parameters and {macs:,} multiply-adds at widths {list(family.base_widths)}, "
            f"depths {list(family.base_depths)} {words}",
            use=f'Candidate(family="{name}", depths={family.base_depths})',
            settings=tuple((key, "the family's own", "see Candidate") for key in family.settings.defaults()),
            docs=tuple(inspect.getdoc(value) or "" for value in (module, type(network))),
        )


def _pruning() -> Iterator[Method]:
    start = 'Candidate(family="resnet", depths=(1, 1, 1), pruning_ratio=0.5'
    for name, criterion in CRITERIA.items():
        reads = "one reading of the trained teacher's weights per study"
        gradients = "a forward and backward pass of the teacher over some training batches, once per study"
        nothing = "none"
        cost = nothing if criterion.score is None else gradients if criterion.needs_gradients else reads
        use = f'{start}, pruning_criterion="{name}")'
        yield Method(name=name, summary=criterion.summary, source=criterion.source, cost=cost, use=use)
    for name, summary in RANKINGS.items():
        use = f'{start}, pruning_criterion="l1", pruning_ranking="{name}")'
        yield Method(name=name, summary=summary, source="", cost="none; sorts the same scores", use=use)

    for name, summary in KEPT_BLOCKS.items():
        unread = name != "importance"
        cost = "none" if unread else "the teacher's loss without each of its blocks, once per study"
        use = f'Candidate(family="resnet", depths=(1, 1, 1), kept_blocks="{name}")'
        yield Method(name=name, summary=summary, source="", cost=cost, use=use)


def _teaching() -> Iterator[Method]:
    costs = {
        "fixed": "only the losses; the teacher is trained once per study",
        "ensemble": "several trainings of the teacher, once per study",
        "assistant": "one more training, once per study",
        "out_of_fold": "one more training per fold, once per study",
        "single_tasks": "one more training per task, once per study",
        "task_agnostic": "the pretrained encoder runs for each batch of the first stage",
        "born_again": "one training of the student per generation, in each trial",
        "mutual": "one training per peer, in each trial",
        "apprentice": "in each trial: scheme joint also trains a network of the teacher's shape, fine_tuned trains the "
        "student twice; fixed costs nothing more",
    }
    for name, (summary, source) in TEACHERS.items():
        yield Method(
            name=name,
            summary=summary,
            source=source,
            cost=costs[name],
            use=f'Teaching(teacher="{name}")',
            settings=tuple((key, str(value), "see Teaching") for key, value in TEACHER_SETTINGS[name].items()),
        )


def _quantization() -> Iterator[Method]:
    costs = {"calibrate": "seconds after training, which stays float"}
    for name, summary in METHODS.items():
        yield Method(
            name=name,
            summary=summary,
            source="",
            cost=costs.get(name, "slower steps in the last quarter of the epochs"),
            use='Candidate(family="resnet", depths=(1, 1, 1), weight_bits=8, activation_bits=8,\n'
            f'          quantization=Quantization(method="{name}"))',
        )


def _samplers() -> Iterator[Method]:
    for name, kind in SAMPLERS.items():
        yield Method(
            name=name,
            summary=kind.summary,
            source=kind.source,
            cost=kind.cost,
            use=f'[search]\nsampler = "{name}"',
            language="toml",
            docs=(kind.warning,) if kind.warning else (),
        )


def _stopping() -> Iterator[Method]:
    for name, summary in RULES.items():
        rule = type(make_rule(name, steps=27))
        cost = "none" if name == "none" else "one validation of the torch module at each rung"
        yield Method(
            name=name,
            summary=summary,
            source="",
            cost=cost,
            use=f'[search]\nstop = "{name}"',
            language="toml",
            docs=tuple(inspect.getdoc(value) or "" for value in (sys.modules[rule.__module__], rule)),
        )


def _spaces() -> Iterator[Method]:
    for name in shipped_names("search_spaces"):
        text = (shipped_folder("search_spaces") / f"{name}.py").read_text(encoding="utf-8")
        summary, _, rest = text.removeprefix('"""').partition('"""')
        yield Method(
            name=name,
            summary=summary.strip().splitlines()[0],
            source="",
            cost="`nas-compress check` prints the size of the space and the hours for your data",
            use=rest.strip(),
            docs=("\n".join(summary.strip().splitlines()[1:]),),
        )


def index_page(kinds: Mapping[str, Sequence[Method]]) -> str:
    """Return a table of all methods with links."""
    lines = ["# Methods", "", "The names for study files and spaces; `nas-compress list KIND` prints the same."]
    for kind, methods in kinds.items():
        lines += ["", f"## {kind.capitalize()}", "", "| name | summary | source | cost |", "|---|---|---|---|"]
        for method in methods:
            cells = [f"[{method.name}](methods/{kind}/{method.name}.md)", method.summary, linked(method.source)]
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in [*cells, method.cost]) + " |")
    return "\n".join(lines) + "\n"
