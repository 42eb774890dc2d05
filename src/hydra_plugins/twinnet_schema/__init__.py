"""Registers the schema of conf/ wherever Hydra composes it, DVC included: Hydra imports every hydra_plugins module."""

from twinnet.core.config import register

register()
