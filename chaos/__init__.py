"""Faults, drivers, simulator, workloads, checkers."""
