"""The scheduler: accepts, orders, retries, schedules and reports jobs."""
