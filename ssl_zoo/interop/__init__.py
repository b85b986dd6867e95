"""What goes to other libraries, and what comes from them."""
