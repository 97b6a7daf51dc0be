"""The kinds of jobs, one module each, named after the kind. A module here is all that a new kind has to add."""
