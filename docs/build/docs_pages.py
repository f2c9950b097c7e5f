"""Hooks of mkdocs: pages generated from the code, and the READMEs of studies and benchmarks as pages."""

from __future__ import annotations

import inspect
import json
import re
import sys
from pathlib import Path
from typing import Any

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import nas_compress
from nas_compress.cli.main import commands
from nas_compress.config.schema import StudySpec
from nas_compress.search.listed_names import catalogue

sys.path.insert(0, str(Path(__file__).parent))
from method_pages import docstring, index_page, linked, method_pages

ROOT = Path(__file__).parents[2]

TABLES = ("quantization", "data", "tasks", "metrics", "devices", "studies")
"""Kinds whose table has more rows than there are pages of methods."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the studies and the pages of the methods to the navigation."""
    parts = {name: pages for part in config.nav or [] if isinstance(part, dict) for name, pages in part.items()}
    parts["Studies"].extend({page.parent.name: page.relative_to(ROOT).as_posix()} for page in study_readmes())
    reference = parts["Reference"]
    kinds = {
        kind.capitalize(): [f"reference/methods/{kind}/{method.name}.md" for method in methods]
        for kind, methods in method_pages().items()
    }
    reference.append({"Each method": [{kind: pages} for kind, pages in kinds.items()]})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add generated pages, the schema of study files, and the READMEs of studies and benchmarks with their pictures."""
    for place, text in pages().items():
        files.append(File.generated(config, place, content=text))
    for page in [*study_readmes(), *sorted(ROOT.glob("benchmarks/**/README.md"))]:
        for path in [page, *sorted(page.parent.glob("*.png"))]:
            files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Redirect links that leave docs/pages, so that they work both in the repository and on the site."""
    up = "../" * page.file.src_uri.count("/")
    return re.sub(rf"\]\({up}\.\./\.\./(studies|benchmarks)/", rf"]({up}\1/", markdown)


def study_readmes() -> list[Path]:
    """The README of each study."""
    return sorted(ROOT.glob("studies/*/README.md"))


def pages() -> dict[str, str]:
    """Return every generated file by its path in the site."""
    schema = StudySpec.model_json_schema()
    kinds = method_pages()
    return {
        "reference/study-file.md": study_file_page(schema),
        "reference/methods.md": index_page(kinds) + tables(),
        **{
            f"reference/methods/{kind}/{method.name}.md": method.page()
            for kind, methods in kinds.items()
            for method in methods
        },
        "reference/commands.md": commands_page(),
        "reference/python.md": python_page(),
        "study.schema.json": json.dumps(schema, indent=2),
    }


def study_file_page(schema: dict[str, Any]) -> str:
    """A table of keys for each section."""
    lines = [
        "# The study file",
        "",
        "TOML, values only. Every key is checked; a wrong one is answered by the nearest right one.",
        "Editors can use the [JSON schema](../study.schema.json).",
    ]
    lines += _section("Top", schema, schema)
    for name, part in schema["$defs"].items():
        lines += _section(name.removesuffix("Section"), part, schema)
    return "\n".join(lines) + "\n"


def _section(title: str, part: dict[str, Any], schema: dict[str, Any]) -> list[str]:
    needed = part.get("required", [])
    rows = ["", f"## {title}", "", inspect.cleandoc(part.get("description", "")), "", "| key | type | default |"]
    rows.append("|---|---|---|")
    for key, value in part.get("properties", {}).items():
        default = "**required**" if key in needed else f"`{json.dumps(value.get('default'))}`"
        rows.append(f"| `{key}` | {_type(value)} | {default if len(default) < 60 else 'its own defaults'} |")
    return rows


def _type(value: dict[str, Any]) -> str:
    if "$ref" in value:
        return f"section {value['$ref'].rsplit('/', 1)[1].removesuffix('Section')}"
    if "enum" in value:
        return " or ".join(f"`{item}`" for item in value["enum"])
    if "anyOf" in value:
        return " or ".join(_type(item) for item in value["anyOf"] if item.get("type") != "null")
    limits = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    rules = [f"{sign} {value[key]:g}" for key, sign in limits.items() if key in value]
    return " ".join([value.get("type", "any"), *rules])


def tables() -> str:
    """Return the tables of `nas-compress list` that have no pages of methods."""
    lines: list[str] = []
    for kind in TABLES:
        rows = catalogue(kind)
        header = list(dict.fromkeys(name for row in rows for name in row))
        lines += ["", f"## {kind.capitalize()}: all", "", "| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
        cells = [[str(row.get(name, "")).replace("|", "\\|") for name in header] for row in rows]
        lines += ["| " + " | ".join(linked(cell) for cell in line) + " |" for line in cells]
    return "\n".join(lines) + "\n"


def commands_page() -> str:
    """Return the help of every command."""
    lines = [
        "# Commands",
        "",
        "Data goes to stdout, progress to stderr. Exit codes: 0 done, 1 failed or stopped, 2 invalid request.",
    ]
    for name, command in commands.commands.items():
        context = click.Context(command, info_name=f"nas-compress {name}")
        lines += ["", f"## {name}", "", "```text", command.get_help(context), "```"]
    return "\n".join(lines) + "\n"


def python_page() -> str:
    """Return the public list with its docstrings."""
    lines = ["# Python", "", "`from nas_compress import ...` loads a name at its first use."]
    for name in nas_compress.__all__:
        value = getattr(nas_compress, name)
        try:
            signature = str(inspect.signature(value))
        except (TypeError, ValueError):
            signature = ""
        doc = docstring(inspect.getdoc(value) or "")
        lines += ["", f"## {name}", "", "```python", f"{name}{signature}", "```", "", doc]
    return "\n".join(lines) + "\n"
