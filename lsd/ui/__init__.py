"""The page: Gradio tabs over the library. Thin: what is computed is computed in the rooms below."""
