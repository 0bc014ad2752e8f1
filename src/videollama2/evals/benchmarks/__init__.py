"""The benchmarks. Each module defines one or two, in a tuple BENCHMARKS."""
