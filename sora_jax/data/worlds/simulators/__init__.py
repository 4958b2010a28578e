"""Simulators of other packages as sources of clips; each is imported only when it is opened."""
