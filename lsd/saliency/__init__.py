"""Saliency: which pixels moved the output."""
