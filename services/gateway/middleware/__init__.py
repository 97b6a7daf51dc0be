"""What surrounds every request: telemetry and the audit log."""
