"""Export a .cwb file for firmware: C sources, memory figures, and integer rescaling for CMSIS-NN."""
