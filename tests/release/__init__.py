"""What a release needs besides the code: one address, artefacts that install (docs/releasing.md)."""
