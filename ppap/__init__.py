"""Practical plug-and-play diffusion (PPAP): off-the-shelf vision models guide pretrained diffusion models.

Go et al., "Towards Practical Plug-and-Play Diffusion Models", CVPR 2023, arXiv 2212.05973.
"""

__version__ = "0.2.0"
