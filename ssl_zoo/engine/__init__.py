"""Training: mmengine's Runner and Hooks, and features that mmengine lacks."""
