"""Weights from other libraries (import) and for other libraries (export)."""
