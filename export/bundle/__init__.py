"""Bundles: an artifact with everything that it needs on a device without network."""

from .bundle import BundleRequest, BundleResult, write_bundle

__all__ = ["BundleRequest", "BundleResult", "write_bundle"]
