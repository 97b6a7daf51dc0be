"""The API of OpenAI; what its capabilities share."""
