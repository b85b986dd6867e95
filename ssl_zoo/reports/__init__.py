"""Reports on runs and studies: HTML pages, figures and tables."""
