"""The passages of one document, as the index has them."""
