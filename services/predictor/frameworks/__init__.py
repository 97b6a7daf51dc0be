"""What runs models: one module a framework, behind one protocol."""
