"""The data set: its rows, and the part of them that judges on the way."""
