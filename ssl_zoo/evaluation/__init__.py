"""Evaluation of representations: features, k-NN, probes, signs of collapse, results rows."""
