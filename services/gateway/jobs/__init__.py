"""Jobs, their events and their audit log: /v1/jobs."""
