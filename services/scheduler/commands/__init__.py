"""Jobs that run a user's program, as a process or as a Kubernetes Job."""
