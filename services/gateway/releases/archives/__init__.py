"""Releases on their way: their files, the formats that carry them, and signatures."""
