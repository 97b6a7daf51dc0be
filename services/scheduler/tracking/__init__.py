"""Experiment runs: what they have run with, and copies of runs and releases in MLflow."""
