"""Documents from their source into the index: read, parse, chunk, embed, commit."""
