"""What happens to the text that vLLM writes before it is shown: stop strings, and tool calls that must be made."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from services.generator.engines.vllm.stop_strings import Piece, StopStringFilter
from services.generator.engines.vllm.tool_calls import forced_schema, reader, tool_names
from shared.contracts.generation import GenerateParams, ToolCallDelta
from shared.contracts.problems import Problem, ProblemType


def pieces(*texts: str) -> list[Piece]:
    return [Piece(text, (number,)) for number, text in enumerate(texts)]


def shown(cutter: StopStringFilter, given: list[Piece]) -> list[Piece]:
    """What is shown of an answer that ends after these pieces, or at a stop string."""
    out: list[Piece] = []
    for piece in given:
        out += cutter.feed(piece)
        if cutter.stopped:
            return out
    return out + cutter.flush()


class TestStopStrings:
    def test_an_answer_ends_before_the_stop_string_wherever_it_is_cut(self) -> None:
        cutter = StopStringFilter(["END"])

        assert "".join(piece.text for piece in shown(cutter, pieces("One E", "N", "D two"))) == "One "
        assert cutter.stopped

    def test_a_piece_is_shown_whole_with_its_tokens_or_not_yet(self) -> None:
        cutter = StopStringFilter(["END"])

        assert cutter.feed(Piece("One E", (1, 2))) == []
        assert cutter.feed(Piece("cho", (3,))) == [Piece("One E", (1, 2)), Piece("cho", (3,))]

    def test_text_that_nearly_stops_is_shown_at_the_end(self) -> None:
        assert shown(StopStringFilter(["END"]), pieces("One ", "EN")) == pieces("One ", "EN")

    def test_the_first_of_several_stop_strings_counts(self) -> None:
        cutter = StopStringFilter(["three", "two"])

        assert "".join(piece.text for piece in shown(cutter, pieces("one two three"))) == "one "

    def test_stop_strings_among_the_least_tokens_are_no_end(self) -> None:
        cutter = StopStringFilter(["x"], min_tokens=2)

        assert shown(cutter, pieces("x", "x", "a", "x")) == pieces("x", "x", "a")

    def test_without_stop_strings_every_piece_passes_at_once(self) -> None:
        assert StopStringFilter([]).feed(Piece("x", (1,))) == [Piece("x", (1,))]

    @given(
        texts=st.lists(st.text("abx", max_size=4), max_size=12),
        stop=st.lists(st.text("abx", min_size=1, max_size=3), min_size=1, max_size=3),
    )
    def test_however_the_text_is_cut_the_answer_is_the_same(self, texts: list[str], stop: list[str]) -> None:
        whole = "".join(texts)
        cutter = StopStringFilter(stop)
        text = "".join(piece.text for piece in shown(cutter, pieces(*texts)))

        assert not any(one in text for one in stop)
        assert cutter.stopped == any(one in whole for one in stop)
        assert whole.startswith(text)
        assert cutter.stopped or text == whole


TOOLS: tuple[dict[str, JsonValue], ...] = (
    {
        "type": "function",
        "function": {
            "name": "find",
            "parameters": {
                "type": "object",
                "properties": {"what": {"$ref": "#/$defs/Text"}},
                "$defs": {"Text": {"type": "string"}},
            },
        },
    },
    {"type": "function", "function": {"name": "wait"}},
)


def params(choice: str, **members: Any) -> GenerateParams:
    return GenerateParams(tools=members.pop("tools", TOOLS), tool_choice=choice, **members)


def read_in_pieces(choice: str, text: str, size: int) -> list[tuple[str, dict[str, Any]]]:
    reading = reader(params(choice))
    calls: dict[int, ToolCallDelta] = {}
    for start in range(0, len(text), size):
        for delta in reading.read(text[start : start + size]):
            if delta.index not in calls:
                assert delta.id is not None
                assert delta.name is not None
                calls[delta.index] = delta
            else:
                assert delta.id is None
                known = calls[delta.index]
                calls[delta.index] = known.model_copy(update={"arguments": known.arguments + delta.arguments})
    return [(str(call.name), json.loads(call.arguments)) for _, call in sorted(calls.items())]


class TestForcedCalls:
    @pytest.mark.parametrize("size", [1, 2, 7, 1000])
    def test_a_list_of_calls_is_read_however_it_is_cut(self, size: int) -> None:
        text = '[ {"name": "find", "arguments": {"what": "a \\"}]{[\\\\ b", "in": [{"x": 1}]}}, '
        text += '{"name":"wait","arguments":{}} ]'

        assert read_in_pieces("required", text, size) == [
            ("find", {"what": 'a "}]{[\\ b', "in": [{"x": 1}]}),
            ("wait", {}),
        ]

    @pytest.mark.parametrize("size", [1, 1000])
    def test_the_text_of_a_named_call_is_its_arguments(self, size: int) -> None:
        assert read_in_pieces("function:find", '{"what": "x"}', size) == [("find", {"what": "x"})]

    def test_the_schema_names_every_tool_and_gathers_their_definitions(self) -> None:
        schema = forced_schema(params("required", parallel_tool_calls=False))

        assert schema is not None
        assert (schema["minItems"], schema["maxItems"]) == (1, 1)
        assert schema["$defs"] == {"Text": {"type": "string"}}
        calls = schema["items"]["anyOf"]  # type: ignore[index, call-overload]
        assert [call["properties"]["name"]["enum"] for call in calls] == [["find"], ["wait"]]  # type: ignore[union-attr]

    def test_a_named_function_gives_the_schema_of_its_parameters(self) -> None:
        assert forced_schema(params("function:wait")) == {"type": "object"}

    def test_nothing_is_forced_where_the_model_chooses(self) -> None:
        assert forced_schema(params("auto")) is None
        assert forced_schema(params("none")) is None

    @pytest.mark.parametrize(
        ("choice", "tools"),
        [
            ("function:lose", TOOLS),
            ("always", TOOLS),
            ("required", ()),
            ("auto", ({"type": "code_interpreter"},)),
            ("auto", ({"type": "function", "function": {}},)),
            ("auto", ({"type": "function", "function": {"name": "f", "parameters": "x"}},)),
        ],
    )
    def test_what_is_no_tool_or_no_choice_is_the_requests_fault(self, choice: str, tools: Any) -> None:
        with pytest.raises(Problem) as caught:
            tool_names(params(choice, tools=tools))

        assert caught.value.kind is ProblemType.INVALID_REQUEST

    def test_parameters_must_be_an_object(self) -> None:
        tools = ({"type": "function", "function": {"name": "f", "parameters": {"type": "string"}}},)
        with pytest.raises(Problem, match="an object"):
            forced_schema(params("required", tools=tools))
