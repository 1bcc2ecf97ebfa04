"""The only place that imports ray: jobs are put together here from the rooms' plain functions."""
