"""Pictures of pipelines."""

from sluice.cli.pipeline_graphs import mermaid, tree

STEPS = [
    "embed",
    {"switch": [{"when": "best < 0.2", "then": [{"refuse": 'No "such" thing.'}]}]},
    {"splitter": [{"weight": 3, "then": ["rerank"]}, {"weight": 1, "then": []}]},
    {"loop": ["retrieve", "judge"], "times": 3, "until": "notes.enough"},
    {
        "fallback": ["generate"],
        "seconds": 10,
        "otherwise": [{"stage": "generate", "variant": "small", "params": {"a": 1}}],
    },
]


def test_a_tree_has_a_line_for_each_step_and_each_way() -> None:
    assert (
        tree("guarded", STEPS)
        == """\
guarded
├─ embed
├─ switch
│  ├─ when best < 0.2:
│  │  └─ refuse: No "such" thing.
│  └─ else: nothing
├─ splitter
│  ├─ 0.75 of the queries:
│  │  └─ rerank
│  └─ 0.25 of the queries: nothing
├─ loop, at most 3 times, until notes.enough
│  └─ each time:
│     ├─ retrieve
│     └─ judge
└─ fallback, after 10 s
   ├─ first:
   │  └─ generate
   └─ if that fails:
      └─ generate (small) {"a": 1}"""
    )


def test_a_flowchart_has_an_arrow_for_each_way() -> None:
    chart = mermaid(STEPS)
    assert chart.startswith("flowchart TD\n")
    assert '  n3{"switch"}' in chart
    assert '  n3 -->|"when best < 0.2"| n4' in chart
    assert 'n4["refuse: No #quot;such#quot; thing."]' in chart
    assert "n4 -->" not in chart  # a refusal ends there
    assert '  n3 -->|"else"| n5' in chart
    assert chart.count('-->|"done"|') == 1


def test_a_step_of_a_newer_version_is_named() -> None:
    assert tree("p", [{"teleport": [], "speed": 1}]) == "p\n└─ teleport"
