"""What a representation is worth: features, k-NN, probes, signs of collapse, results rows."""
