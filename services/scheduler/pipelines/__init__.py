"""Running pipelines: each step is a job, or several, of its own."""
