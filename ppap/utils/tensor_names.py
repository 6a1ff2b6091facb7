"""Names of the tensors in files that one step of the workflow writes and another reads."""

IMAGES, LABELS = "images", "labels"  # of real images
MU, SIGMA = "mu", "sigma"  # mean and covariance of their Inception features, as published
FEATURES, LOGITS, PREDICTED = "features", "logits", "predicted"  # an evaluator's answers
TARGET, PICTURE = "target", "picture"  # of samples, and what shows it
IMAGE, MIRROR = "image", "mirror"  # a teacher's answers on an image, and on its mirror image
