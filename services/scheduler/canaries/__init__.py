"""Canaries of versions: a growing share of the questions, judged by how they end."""
