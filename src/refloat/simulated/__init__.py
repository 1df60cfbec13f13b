"""A cluster that runs nothing: scripted latency and faults behind the same ports as the real ones.

Shipped, because people need it too: to rehearse an environment, or as a stand-in in CI.
"""
