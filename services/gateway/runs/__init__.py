"""Experiment runs: /v1/runs."""
