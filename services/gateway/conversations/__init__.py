"""Conversations of the web console that are kept on the server, apart for each key and person."""
