"""Reasons: what spoke for one decision, how much, where in the picture, and what the network says without it."""
