"""From image bytes to views: sources -> sample -> crop (host) -> photometric (device)."""
