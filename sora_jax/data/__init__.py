"""Clips and captions on the host: sources, decoders, buckets, the plan of batches, the loader."""
