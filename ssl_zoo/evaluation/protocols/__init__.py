"""Evaluation protocols: a checkpoint goes in, values of a published protocol come out."""
