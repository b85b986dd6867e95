"""Studies: many methods on one recipe, over seeds, and the report of them."""
