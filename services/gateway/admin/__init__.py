"""What operators look at: status, metrics, traces and dead letters."""
