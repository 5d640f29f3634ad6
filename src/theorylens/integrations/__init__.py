"""Thin adapters to other tools, each in a file of its own and imported only when that tool is used."""
