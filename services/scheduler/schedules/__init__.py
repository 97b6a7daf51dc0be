"""Schedules: their ticks, and the timers of the broker that trigger them."""
