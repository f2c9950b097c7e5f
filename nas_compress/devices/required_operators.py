"""Operators of a file, as the build of a reduced onnxruntime reads them."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from pathlib import Path

from nas_compress.devices.onnx_session import open_session, read_model
from nas_compress.devices.onnx_traversal import flat_graph

ONNX_DOMAIN = "ai.onnx"
"""Name of the empty domain in these files."""

_HEAD = """\
# Operators of {name}, for `build.sh --include_ops_by_config required_operators.config` of onnxruntime.
# As shipped, and after all optimisations by onnxruntime on this machine: other processors may use fewer.
"""


def required_operators(path: Path) -> str:
    """Return the lines `domain;opset;Op1,Op2` of a file, in the order of domains.

    They are those of the graph as shipped, and those of the graph after the runtime's optimisations, some of the domain
    `com.microsoft`. RequestError if the file does not load.
    """
    with tempfile.TemporaryDirectory(prefix="nas_compress_") as folder:
        optimised = Path(folder) / "optimised.onnx"
        open_session(path, optimised_path=optimised)
        models = [read_model(path), read_model(optimised)]
    found: dict[tuple[str, int], set[str]] = defaultdict(set)
    for model in models:
        opsets = {each.domain or ONNX_DOMAIN: each.version for each in model.opset_import}
        for node in flat_graph(model).nodes:
            domain = node.domain or ONNX_DOMAIN
            found[domain, opsets[domain]].add(node.op_type)
    lines = [f"{domain};{opset};{','.join(sorted(names))}\n" for (domain, opset), names in sorted(found.items())]
    return _HEAD.format(name=path.name) + "".join(lines)
