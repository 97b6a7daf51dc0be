"""The prompts of a language model: templates, and what of a question's material fits into a window."""
