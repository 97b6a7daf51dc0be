"""The web console: its built pages, served at `/`. Its sources are in `console/`."""
