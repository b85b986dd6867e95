"""Configs: settings with their types and checks, and how they are read from a file."""
