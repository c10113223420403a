"""The version of the package: the one place that says it. Manifests that cannot read it are held equal by a test."""

__version__ = "0.2.0"
