"""The native backend: llama.cpp through llama-cpp-python's ctypes layer."""

from .backend import BACKEND

__all__ = ["BACKEND"]
