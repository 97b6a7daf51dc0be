"""Callers are told what is wrong with a model, and nothing of the machine."""

from pathlib import Path

import pytest

from shared.reasons import told


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Load model from /srv/my models/iris/1/model.onnx failed", "Load model from model.onnx failed"),
        ("no file in '/srv/my models/iris/1'", "no file in '1'"),
        ("[Errno 13] Permission denied: '/var/lib/sluice/x/y.bin'", "[Errno 13] Permission denied: 'y.bin'"),
        ("graph.cc: /src/core/graph.cc:1451 Graph::Graph(a/b)", "graph.cc: graph.cc:1451 Graph::Graph(a/b)"),
        ("wrong\nStack trace:\n  [bt] (0) /opt/lib.so(+0x2)", "wrong"),
        ("see https://example.org/a/b and s3://bucket/a", "see https://example.org/a/b and s3://bucket/a"),
        ("1/2 is not 3/4", "1/2 is not 3/4"),
        ("the input 'x' has the shape [-1, 4]", "the input 'x' has the shape [-1, 4]"),
    ],
)
def test_a_path_is_told_by_its_last_part(text: str, expected: str) -> None:
    assert told(text, Path("/srv/my models/iris/1")) == expected
