"""Versions of collections that a share of the questions is answered from, and how these end."""
