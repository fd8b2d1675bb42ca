"""Jobs over packet tables: plans, schedulers, progress, and the command line."""
