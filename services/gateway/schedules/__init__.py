"""Schedules: /v1/schedules."""
