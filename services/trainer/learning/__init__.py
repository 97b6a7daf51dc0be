"""Training by sentence-transformers. Its import takes seconds: import these modules when training begins."""
