"""JAX's platforms, which both engines start."""

import os

import jax

from twinnet.core.errors import DeviceError


def jax_devices() -> list[jax.Device]:
    """Start JAX and return its devices. Raises DeviceError if JAX_PLATFORMS names a platform that is not there."""
    try:
        return jax.devices()
    except (RuntimeError, AssertionError) as error:
        raise DeviceError(
            f"JAX_PLATFORMS={os.environ.get('JAX_PLATFORMS', '')}: expected a platform that JAX finds here; "
            f"received {' '.join(str(error).split()) or 'none'}; unset it"
        ) from error
