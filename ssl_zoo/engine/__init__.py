"""Training on mmengine's Runner and Hooks; what mmengine lacks is added here, each with its reason."""
