"""Answers that are kept with their questions and sources, so that readers may judge them and shadows be compared.

Nothing is kept unless a setting says so. A query never waits: its answer is written in the background, after the
redactor has seen every text.
"""
