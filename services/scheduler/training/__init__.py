"""Jobs that train a model, by the program in `services.trainer`."""
