"""Promise 5: failures are tried again, then kept as dead letters with their reason, and can be replayed."""

import asyncio
import time

import pytest

from shared.contracts.envelope import Lane, Query
from shared.contracts.events import Failed, Progress, Result
from shared.contracts.problems import Problem, ProblemType
from shared.nats.subjects import reply_subject
from shared.runtime.replies import open_mailbox
from shared.runtime.stage import Context
from shared.stores.dead_letters import HEADERS, DeadLetters
from tests.harness.broker import NatsServer
from tests.harness.stage_harness import PATIENCE, StageHarness, open_stage_harness, outcomes, until

pytestmark = pytest.mark.anyio


class Failing:
    """A stage function that raises until it is repaired."""

    def __init__(self, error: BaseException) -> None:
        self.error: BaseException | None = error
        self.tries: list[float] = []

    async def __call__(self, query: Query, context: Context) -> Query:
        self.tries.append(time.monotonic())
        if self.error is not None:
            raise self.error
        return query


async def test_failing_work_is_tried_again_later_and_then_kept_as_a_dead_letter_with_its_reason(
    broker: NatsServer,
) -> None:
    failing = Failing(RuntimeError("no weights here"))
    async with open_stage_harness(broker.url, max_deliver=3) as harness, harness.working(failing, "broken") as worker:
        events = await harness.ask(harness.query("broken"))
        assert [type(event) for event in events] == [Progress, Progress, Progress, Failed]
        assert [event.delivery for event in events] == [1, 2, 3, 3]
        assert isinstance(events[-1], Failed)
        assert events[-1].problem.type == ProblemType.STAGE_FAILED.uri
        assert "RuntimeError" in events[-1].problem.detail
        assert "no weights here" not in events[-1].problem.detail  # an exception's words are for the operator
        assert failing.tries[2] - failing.tries[0] >= 0.1 + 0.2  # half of 0.2 s and of 0.4 s at least
        await harness.empty("broken")
        letters = DeadLetters(harness.client, harness.jetstream)
        (letter,) = await letters.list()
        assert letter.subject == "query.broken.default.interactive.default"
        assert (letter.reason, letter.deliveries) == ("RuntimeError: no weights here", 3)
        assert "Traceback" in letter.traceback
        assert "raise self.error" in letter.traceback
        assert await letters.count() == 1
        (status,) = worker.statuses
        assert status.work is not None
        assert (status.work.ended, status.work.failed) == (3, 3)
        assert status.work.waited_seconds >= 0.1 + 0.2
        assert sum(bucket.ended for bucket in status.work.worked_buckets) == 3
    assert (outcomes("broken", "retried"), outcomes("broken", "dead_letter")) == (2, 1)


async def test_a_panic_of_a_library_is_a_failure_like_any_other(broker: NatsServer) -> None:
    class PanicError(BaseException):
        """As libraries in Rust raise it."""

    failing = Failing(PanicError("no key"))
    async with open_stage_harness(broker.url, max_deliver=2) as harness, harness.working(failing, "panicking"):
        for _ in range(2):
            events = await harness.ask(harness.query("panicking"))
            assert isinstance(events[-1], Failed)
            assert "PanicError" in events[-1].problem.detail


async def test_a_dead_letter_that_is_replayed_is_worked_on_afresh_and_gone(broker: NatsServer) -> None:
    failing = Failing(RuntimeError("not yet"))
    async with open_stage_harness(broker.url, max_deliver=1) as harness, harness.working(failing, "mended"):
        asked = harness.query("mended", question="why?", timeout=20.0)
        assert isinstance((await harness.ask(asked))[-1], Failed)
        letters = DeadLetters(harness.client, harness.jetstream)
        (letter,) = await letters.list()
        failing.error = None
        async with open_mailbox(harness.client, harness.asker, "replayed") as mailbox:
            went = await letters.replay(letter.sequence, reply=reply_subject(harness.asker, "replayed"))
            assert went == "query.mended.default.interactive.default"
            end = (await harness.events(mailbox))[-1]
        assert isinstance(end, Result)
        assert (end.query.question, end.query.attempt) == ("why?", 2)
        assert end.query.deadline - end.query.asked_at == pytest.approx(20.0)
        assert end.query.deadline > asked.deadline
        assert await letters.count() == 0
        assert await letters.list() == []


async def test_a_replay_that_fails_again_is_a_new_dead_letter_and_can_be_replayed_again(broker: NatsServer) -> None:
    failing = Failing(RuntimeError("still broken"))
    async with open_stage_harness(broker.url, max_deliver=1) as harness, harness.working(failing, "stubborn-failure"):
        asked = harness.query("stubborn-failure")
        letters = DeadLetters(harness.client, harness.jetstream)
        async with harness.replies_to(asked) as mailbox:
            await harness.events(mailbox)
            for attempt in (2, 3):
                (letter,) = await letters.list()
                await letters.replay(letter.sequence)
                end = (await harness.events(mailbox))[-1]
                assert isinstance(end, Failed)
                assert end.attempt == attempt
        assert await letters.count() == 1


async def test_replaying_a_letter_that_is_not_there_is_a_problem(harness: StageHarness) -> None:
    with pytest.raises(Problem) as caught:
        await DeadLetters(harness.client, harness.jetstream).replay(7)
    assert caught.value.kind is ProblemType.NOT_FOUND


async def test_replaying_what_is_no_query_is_a_problem_and_the_letter_stays(harness: StageHarness) -> None:
    letters = DeadLetters(harness.client, harness.jetstream)
    await letters.bury("query.work.default.interactive.t", b"rubbish", {}, reason="x", deliveries=1, message_id="1")
    with pytest.raises(Problem) as caught:
        await letters.replay(1)
    assert caught.value.kind is ProblemType.INVALID_REQUEST
    assert await letters.count() == 1


async def test_replaying_into_a_full_queue_is_a_problem_and_the_letter_stays(broker: NatsServer) -> None:
    async with open_stage_harness(broker.url, queue_limit=1) as harness:
        letters = DeadLetters(harness.client, harness.jetstream)
        query = await harness.submit(harness.query("work"))
        subject = "query.work.default.interactive.default"
        await letters.bury(subject, query.encode(), {}, reason="x", deliveries=1, message_id="1")
        with pytest.raises(Problem) as caught:
            await letters.replay(1)
        assert caught.value.kind is ProblemType.QUEUE_FULL
        assert await letters.count() == 1


async def test_a_problem_is_reported_once_and_not_tried_again(harness: StageHarness) -> None:
    failing = Failing(Problem(ProblemType.INVALID_FILTER, "There is no field 'x'.", field="x"))
    async with harness.working(failing, "strict"):
        events = await harness.ask(harness.query("strict"))
        assert isinstance(events[-1], Failed)
        assert events[-1].problem.type == ProblemType.INVALID_FILTER.uri
        assert events[-1].problem.model_extra == {"field": "x"}
        await harness.empty("strict")
    assert len(failing.tries) == 1
    assert outcomes("strict", "problem") == 1


@pytest.mark.parametrize(
    "rubbish",
    [
        b"",
        b"\xff\xfe\x00 no text",
        b"{}",
        b"[]",
        b"null",
        b"[" * 100_000,
        b'{"id":"a","asked_at":1,"deadline":1e999,"reply":"r","slip":[]}',
        b'{"id":"a b","asked_at":1,"deadline":2,"reply":"r","slip":[{"stage":"work"}]}',
        b'{"id":"a","asked_at":1,"deadline":9e9,"reply":"r","slip":' + str([{"stage": "work"}] * 33).encode() + b"}",
        b'{"id":"a","asked_at":1,"deadline":9e9,"reply":"r","slip":[' + b",".join([b'{"stage":"work"}'] * 33) + b"]}",
        b"x" * (2**20 - 200),
    ],
    ids=lambda rubbish: f"{rubbish[:20]!r} of {len(rubbish)}",
)
async def test_rubbish_in_a_queue_becomes_a_dead_letter_and_the_worker_lives(
    harness: StageHarness, rubbish: bytes
) -> None:
    working = Failing(RuntimeError())
    working.error = None
    async with harness.working(working, "work", room=1):
        await harness.jetstream.publish("query.work.default.interactive.t", rubbish)
        assert isinstance((await harness.ask(harness.query("work")))[-1], Result)
        await harness.empty("work")
    letters = DeadLetters(harness.client, harness.jetstream)
    (letter,) = await letters.list()
    assert letter.reason.startswith("This is no query envelope")
    assert letter.payload_bytes == min(len(rubbish), harness.client.max_payload - HEADERS)
    assert len(working.tries) == 1


@pytest.mark.parametrize("deadline", ["NaN", "Infinity", "1e308"])
async def test_a_deadline_out_of_all_bounds_does_not_hold_a_worker(broker: NatsServer, deadline: str) -> None:
    async with open_stage_harness(broker.url, max_deliver=1) as harness:
        working = Failing(RuntimeError())
        working.error = None
        async with harness.working(working, "work", room=1):
            query = (
                f'{{"id":"a","asked_at":1,"deadline":{deadline},"reply":"{harness.asker}","slip":[{{"stage":"work"}}]}}'
            )
            await harness.jetstream.publish("query.work.default.interactive.t", query.encode())
            assert isinstance((await harness.ask(harness.query("work")))[-1], Result)
            await harness.empty("work")


async def test_two_like_rubbish_messages_are_two_dead_letters_even_if_the_queues_were_made_anew_between(
    harness: StageHarness,
) -> None:
    letters = DeadLetters(harness.client, harness.jetstream)
    for count in (1, 2):
        async with harness.working(Failing(RuntimeError()), "work"):
            await harness.jetstream.publish("query.work.default.interactive.t", b"rubbish")
            await harness.empty("work")
        assert await letters.count() == count
        await harness.jetstream.delete_stream("QUERIES")  # what a restarted broker's memory holds
        await harness.topology.ensure()


async def test_a_message_that_was_delivered_too_often_is_buried_without_another_try(broker: NatsServer) -> None:
    async with open_stage_harness(broker.url, max_deliver=2) as harness:
        working = Failing(RuntimeError())
        working.error = None
        await harness.make_queue("poison")
        query = harness.query("poison")
        async with harness.replies_to(query) as mailbox:
            subscription = await harness.jetstream.pull_subscribe_bind("poison_default_interactive", "QUERIES")
            for _ in range(2):  # as if two workers had taken it and died of it
                (message,) = await subscription.fetch(1, timeout=PATIENCE)
                await message.nak()
            async with harness.working(working, "poison"):
                end = (await harness.events(mailbox))[-1]
        assert isinstance(end, Failed)
        assert end.problem.type == ProblemType.STAGE_FAILED.uri
        (letter,) = await DeadLetters(harness.client, harness.jetstream).list()
        assert letter.reason == "Delivered 2 times; each worker died or stalled before it was done."
        assert working.tries == []


async def test_a_very_long_error_is_cut_to_what_a_dead_letter_can_hold(broker: NatsServer) -> None:
    failing = Failing(RuntimeError("ü\r\n\x00" * 400_000))
    async with open_stage_harness(broker.url, max_deliver=1) as harness, harness.working(failing, "verbose"):
        big = harness.query("verbose", question="x" * (harness.client.max_payload - 20_000))
        end = (await harness.ask(big))[-1]
        assert isinstance(end, Failed)
        (letter,) = await DeadLetters(harness.client, harness.jetstream).list()
        assert letter.reason.startswith("RuntimeError: ü\r\n\x00ü")
        failing.error = None
        assert isinstance((await harness.ask(harness.query("verbose")))[-1], Result)


async def test_a_dead_letter_that_cannot_be_stored_yet_keeps_the_message_in_the_queue(broker: NatsServer) -> None:
    failing = Failing(RuntimeError("x"))
    async with open_stage_harness(broker.url, max_deliver=1) as harness:
        await harness.jetstream.delete_stream("DEAD_LETTERS")
        async with harness.working(failing, "kept"):
            query = harness.query("kept")
            async with harness.replies_to(query) as mailbox:
                assert isinstance(await mailbox.receive(PATIENCE), Progress)

                async def came_back() -> bool:
                    return (await harness.queue("kept")).num_redelivered > 0

                await until(came_back)
                await harness.topology.ensure()
                assert isinstance((await harness.events(mailbox))[-1], Failed)
        assert await DeadLetters(harness.client, harness.jetstream).count() == 1


async def test_the_newest_dead_letters_are_listed_first_also_after_some_were_replayed(harness: StageHarness) -> None:
    letters = DeadLetters(harness.client, harness.jetstream)
    for number in range(10):
        await letters.bury(f"job.x.{number}", b"", {}, reason=f"r{number}", deliveries=1, message_id=str(number))
    await harness.jetstream.delete_msg("DEAD_LETTERS", 9)
    assert [letter.reason for letter in await letters.list(3)] == ["r9", "r7", "r6"]
    assert len(await letters.list()) == 9


async def test_the_same_dead_letter_twice_is_kept_once(harness: StageHarness) -> None:
    letters = DeadLetters(harness.client, harness.jetstream)
    for _ in range(2):
        await letters.bury("query.a.b.c.d", b"x", {"a": "b"}, reason="r", deliveries=1, message_id="same")
    assert await letters.count() == 1


async def test_one_reader_gets_one_failure_though_both_lanes_fail(broker: NatsServer) -> None:
    failing = Failing(RuntimeError("x"))
    async with open_stage_harness(broker.url, max_deliver=2) as harness, harness.working(failing, "both"):
        ends = await asyncio.gather(*(harness.ask(harness.query("both", lane=lane)) for lane in Lane for _ in range(5)))
        for events in ends:
            assert sum(isinstance(event, Failed) for event in events) == 1
        assert await DeadLetters(harness.client, harness.jetstream).count() == 10
