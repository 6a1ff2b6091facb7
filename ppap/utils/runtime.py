"""Former names of `ppap.utils.device` and `ppap.utils.mixed_precision`, until nobody calls them any more."""

from ppap.utils.device import Runtime as Runtime
from ppap.utils.device import device_of as device
from ppap.utils.device import keep_compiled as keep_compiled
from ppap.utils.device import keep_freed_memory as keep_freed_memory
from ppap.utils.device import place as place
from ppap.utils.mixed_precision import autocast as autocast
from ppap.utils.mixed_precision import hold_precision as hold_precision
from ppap.utils.mixed_precision import precision as precision

__all__ = ["Runtime", "autocast", "device", "hold_precision", "keep_compiled"]
