"""headrace beside Prefect: every row of the budget table, measured for both in one run.

`python -m benchmarks` (or `make bench`) prints both figures and their ratio and writes `benchmarks/RESULTS.md`.
"""
