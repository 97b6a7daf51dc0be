"""How well sentences that no source supports are told from those that are supported."""
