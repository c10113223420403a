"""Inputs that cannot work: models, data, functions, options, paths and files, through the whole command line."""
