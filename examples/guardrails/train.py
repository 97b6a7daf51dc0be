"""Train a small model that tells instructions to the assistant from questions: `python examples/guardrails/train.py`

It learns from examples.tsv, a label and a text in each line. Add what your readers ask and what you want refused. Needs
what `make predictor` installs. The model is written as a skops file, which holds no code.
"""

import argparse
from pathlib import Path

import skops.io
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=Path, default=HERE / "examples.tsv")
    parser.add_argument("--out", type=Path, default=HERE / "models" / "guard-model" / "1")
    arguments = parser.parse_args()
    lines = [line.split("\t", 1) for line in arguments.examples.read_text("utf-8").splitlines() if "\t" in line]
    labels, texts = [label for label, _ in lines], [text for _, text in lines]
    words = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), lowercase=True, sublinear_tf=True)
    model = make_pipeline(words, LogisticRegression(C=20.0, class_weight="balanced", max_iter=1000))
    scores = cross_val_score(model, texts, labels, cv=5, scoring="f1_macro")
    print(f"{len(texts)} examples, F1 by cross-validation {scores.mean():.2f} ± {scores.std():.2f}")
    model.fit(texts, labels)
    arguments.out.mkdir(parents=True, exist_ok=True)
    skops.io.dump(model, arguments.out / "model.skops")
    print(f"wrote {arguments.out / 'model.skops'}")


if __name__ == "__main__":
    main()
