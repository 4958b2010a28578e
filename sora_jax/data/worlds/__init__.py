"""Procedural videos with exact captions and exact state, one world a file."""
