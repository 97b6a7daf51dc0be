"""Models of the store in memory: loaded on their first use, a few at a time beside the process's own."""
