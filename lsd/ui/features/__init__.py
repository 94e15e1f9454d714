"""The tab “Feature visualization”."""
