"""A language model small enough for a test: two layers of random weights, a tokenizer of its own, and adapters."""

import json
from pathlib import Path
from typing import Final

from tests.harness.paths import ROOT

__all__ = ["WINDOW", "make_adapter", "make_model"]

WINDOW: Final = 1024
"""Tokens that fit into the model."""

VOCABULARY: Final = 1024
HIDDEN: Final = 64
TEXT: Final = ROOT / "LICENSE"
"""What the tokenizer is trained on: English that does not change."""

END, START, STOP = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
MARKS: Final = ("<think>", "</think>", "<tool_call>", "</tool_call>")

CHAT_TEMPLATE: Final = """\
{%- if tools %}{{ "<|im_start|>system\\nTools: " + tools | tojson + "<|im_end|>\\n" }}{% endif -%}
{%- for message in messages %}
{{- "<|im_start|>" + message.role + "\\n" }}
{%- if message.content %}{{ message.content }}{% endif %}
{%- for call in message.tool_calls or [] %}
{{- "<tool_call>" + {"name": call.function.name, "arguments": call.function.arguments} | tojson + "</tool_call>" }}
{%- endfor %}
{{- "<|im_end|>\\n" }}
{%- endfor -%}
{%- if add_generation_prompt %}{{ "<|im_start|>assistant\\n" }}{% endif -%}
"""
"""ChatML with tools, as Qwen2.5 writes it."""


def make_model(folder: Path, *, seed: int = 0, hidden: int = HIDDEN, layers: int = 2) -> Path:
    """A Qwen2 model and a byte-level BPE tokenizer; the same seed gives the same weights. What it writes is noise.

    Greater sizes are for a model that takes its time.
    """
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    tokenizer = _make_tokenizer(folder)
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=WINDOW,
        tie_word_embeddings=False,
        # Weights of the usual size give nearly the same odds to every token, and a tie at each step.
        initializer_range=0.2,
        eos_token_id=tokenizer,
    )
    Qwen2ForCausalLM(config).to(torch.float32).save_pretrained(folder)
    return folder


def make_adapter(folder: Path, model: Path, *, rank: int = 8, seed: int = 1) -> Path:
    """A LoRA adapter in PEFT's format, with weights so large that it changes every answer."""
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(seed)
    folder.mkdir(parents=True)
    weights = {}
    for layer in range(2):
        for name in ("q_proj", "v_proj"):
            prefix = f"base_model.model.model.layers.{layer}.self_attn.{name}"
            weights[f"{prefix}.lora_A.weight"] = torch.randn(rank, HIDDEN)
            weights[f"{prefix}.lora_B.weight"] = torch.randn(HIDDEN, rank)
    save_file(weights, folder / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": str(model),
        "r": rank,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": ["q_proj", "v_proj"],
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def _make_tokenizer(folder: Path) -> int:
    """Returns the id of the token that ends an answer."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(MARKS),
        special_tokens=[END, START, STOP],
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT.read_text().splitlines(keepends=True), trainer)
    tokenizer.add_tokens(list(MARKS))
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=STOP, pad_token=END, extra_special_tokens=[START]
    )
    fast.chat_template = CHAT_TEMPLATE
    fast.save_pretrained(folder)
    return int(fast.convert_tokens_to_ids(STOP))
