"""One ranking from what a store finds by meaning and by words, the same for every store."""
