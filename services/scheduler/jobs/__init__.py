"""The job plane: queue, runner, retries, and the registry of kinds."""
