"""Feature visualization: gradient ascent from noise to the picture that a unit of a network responds to most."""
