"""Studies: many methods trained on one recipe with several seeds, and a report on them."""
