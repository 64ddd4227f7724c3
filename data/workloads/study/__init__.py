"""What the two workloads of the study share; see guard.py (life and clean-up) and run.py (a run from start to end)."""
