"""Authentication, permissions and limits of API keys."""
