"""The bare engine: `python -m benchmarks.programs.bare_vllm MODEL TOKENS`; standard input says what to run."""

import asyncio
import json
import sys
import time

from benchmarks.programs.chat_load import MODEL, QUESTION, Answer, load


async def serve_bare(model: str, tokens: int) -> None:
    """Run loads against the engine in this process, as asked for on standard input, one JSON line each."""
    from services.generator.engines.vllm.config import VLLMConfig
    from services.generator.engines.vllm.engine import VLLMEngine

    engine = VLLMEngine(VLLMConfig(model=model, served_name=MODEL, dtype="float32", kv_cache_gib=0.25))
    await engine.start()
    llm = engine._running._llm  # type: ignore[union-attr]

    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    tokenizer = llm.get_tokenizer()
    params = SamplingParams(
        max_tokens=tokens, temperature=0, ignore_eos=True, output_kind=RequestOutputKind.DELTA, detokenize=True
    )
    asked = 0

    async def ask(number: int) -> Answer:
        nonlocal asked
        asked += 1
        began, first, count = time.perf_counter(), 0.0, 0
        messages = [{"role": "user", "content": QUESTION.format(number)}]
        prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        async for output in llm.generate(prompt, params, request_id=f"bare-{asked}"):
            count += len(output.outputs[0].token_ids)
            if not first and output.outputs[0].text:
                first = time.perf_counter() - began
        return first, count

    print("ready", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        wanted = json.loads(line)
        print(json.dumps(await load(ask, wanted["concurrent"], wanted["total"])), flush=True)
    await engine.close()


if __name__ == "__main__":
    asyncio.run(serve_bare(sys.argv[1], int(sys.argv[2])))
