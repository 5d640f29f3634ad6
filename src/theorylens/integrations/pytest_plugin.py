"""Pytest fixture for requirements."""
