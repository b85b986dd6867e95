"""Training on mmengine's Runner and Hooks, with what mmengine lacks."""
