"""Operators of a file for a reduced build, read by onnxruntime's own parser."""

from __future__ import annotations

from pathlib import Path

import pytest
from onnxruntime.tools.reduced_build_config_parser import parse_config

from nas_compress.devices.onnx_session import open_session, read_model
from nas_compress.devices.onnx_traversal import flat_graph
from nas_compress.devices.required_operators import required_operators
from nas_compress.errors import RequestError
from timing import save_net


def test_onnxruntime_reads_every_operator_as_shipped_and_as_optimised(tmp_path: Path) -> None:
    net, optimised = save_net(tmp_path / "net.onnx"), tmp_path / "optimised.onnx"
    open_session(net, optimised_path=optimised)
    (tmp_path / "required_operators.config").write_text(required_operators(net))
    found, types = parse_config(str(tmp_path / "required_operators.config"))
    assert types is None and found["ai.onnx"][17] >= {"Cast", "Conv"}
    listed = {(domain, name) for domain, opsets in found.items() for names in opsets.values() for name in names}
    for path in (net, optimised):
        nodes = flat_graph(read_model(path)).nodes
        assert {(node.domain or "ai.onnx", node.op_type) for node in nodes} <= listed


def test_a_file_that_does_not_load_is_refused(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"nothing")
    with pytest.raises(RequestError):
        required_operators(tmp_path / "net.onnx")
