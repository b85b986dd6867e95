"""Evaluation protocols: measure a checkpoint as published papers do."""
