"""Builds llama-cpp-python wheels that really use the GPU, and proves it."""

__version__ = "0.1.0"
