"""The Choices tab."""
