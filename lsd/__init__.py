"""LSD: a simulator for explainable deep learning, over any timm image model."""

__version__ = "0.1.0"
