"""Vectors: what an outside party wrote down about inputs and results, run through the public interfaces."""
