"""From a model to a file: the stages of ``compress``, in the order in which ``pipeline.py`` runs them."""
