"""Files of named arrays, .npz and .safetensors: read, trusting nothing in them, and written. Needs numpy alone."""
