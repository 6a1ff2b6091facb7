"""The preset: its sections, what follows from them, and how it is read and explained."""
