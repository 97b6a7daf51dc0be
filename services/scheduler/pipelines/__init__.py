"""Runs pipelines. Each step is one job or several."""
