"""Hardship from a seed: the production node under virtual time, with partitions, crashes and wrong clocks.

Everything a node needs of the world enters through five seams. Here all five are made of a seed: time is virtual,
links delay, stall and cut, devices lose power, clocks lie, and work runs inline. The same seed gives the same run, byte
for byte, so whatever is found can be found again.
"""
