"""The search for the options of retrieval that answer a set of questions best."""
