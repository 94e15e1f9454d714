"""The Reasons tab."""
