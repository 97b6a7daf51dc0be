"""The model repository: which models there are, in which versions, and which of them are in memory."""
