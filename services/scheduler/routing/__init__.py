"""Weights of routes that follow what readers say."""
