"""The tab “Evidence”."""
