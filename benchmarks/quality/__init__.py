"""Quality of retrieval and answers: corpora with questions, contenders and measures."""
