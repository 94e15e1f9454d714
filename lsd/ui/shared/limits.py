"""How much one visitor may ask for at a time; the command line knows no such limits."""

MAX_MODELS = 4  # explained side by side
MAX_LANES = 3  # visualized side by side
MAX_STEPS, MAX_SIDE, MAX_SEEDS, MAX_VIEWS = 1024, 512, 8, 32  # of an ascent on the page
MAX_PROGRAM_STEPS = 512  # of an ascent by the endpoint
MAX_UPLOAD = "24mb"
MAX_WAITING = 200  # quick events; jobs that run a model wait in a line of their own (`lsd.ui.shared.jobs`)
