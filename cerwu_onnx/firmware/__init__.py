"""What firmware needs of a .cwb file: C sources, memory figures, integer rescaling for CMSIS-NN."""
