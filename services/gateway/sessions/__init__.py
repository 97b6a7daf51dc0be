"""Sessions of the web console, and who the caller is."""
