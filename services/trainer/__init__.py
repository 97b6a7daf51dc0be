"""The trainer: the program of a job of the kind `train`. It needs the extra `train`."""
