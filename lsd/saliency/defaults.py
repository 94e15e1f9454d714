"""What is asked where nobody has chosen; docs/choices.md holds each against its alternatives.

Those of the drawing are `lsd.saliency.maps.MapSettings`', those of a method its own settings'.
"""

METHOD = "depth_fusion"
KIND = "log_odds"
MOST_CLASSES = 5  # that are told apart by their colours
