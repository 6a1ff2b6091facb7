"""The drawing of figures, a module each, of values alone."""
