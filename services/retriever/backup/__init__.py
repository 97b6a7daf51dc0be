"""Backup and restore of everything that Sluice keeps: `python -m services.retriever.backup`.

A program of its own, in the retriever's image because it reads and writes the index. It speaks to the broker and to no
service, so it works while services are down, and a restore has to.
"""
