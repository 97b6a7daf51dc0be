"""What the words of a text are. The retriever indexes and searches by these words, and the generator compares
questions, sentences and citations by the same ones.

- `folding`: one spelling for characters that readers take for the same.
- `segments`: a text into words, identifiers and runs of scripts without spaces.
- `languages`: stop words and stemmers, and which language a text is in.
- `sentences`: a text into sentences, list items, rows, headings and code.
- `terms`: all of it together: the terms of a document and of a question.
- `chunks`: what chunks of one text repeat of each other.
- `copies`: which texts are near-copies of each other.

The package needs no other of Sluice.
"""
