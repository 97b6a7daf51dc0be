"""Sluice's tests, by tier: see the page on tests in CONTRIBUTING.md."""
