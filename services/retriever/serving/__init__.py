"""A copy of each collection in use, in memory, that answers searches; the table on disk stays the source of truth.

A collection is a list of immutable segments (`segment`) and one mask of the rows that are alive: a `Snapshot`. A commit
makes a new snapshot, and a search reads one from its beginning to its end. So it sees each commit whole or not at all.
"""
