"""The benchmarks, by name. Each module defines one or several and is a few screens long."""
