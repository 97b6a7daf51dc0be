"""The log of requests and responses of models.

Nothing is logged unless a setting says so. An inference never waits: its payloads are written in the background, after
the redactor has seen every text.
"""
