"""Evaluation: where a model is wrong, and whether its saliency maps point at what it relies on."""
