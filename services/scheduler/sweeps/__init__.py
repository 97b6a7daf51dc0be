"""Jobs that search for the hyper-parameters of a training."""
