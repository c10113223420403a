"""Run work: threads, workers, a cache of results, progress, and files that are never half-written."""
