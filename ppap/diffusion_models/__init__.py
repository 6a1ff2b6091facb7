"""Pretrained diffusion models: one network per module, all called as network(x_t, t)."""
