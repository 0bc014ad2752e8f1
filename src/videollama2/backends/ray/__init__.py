"""Jobs over many files on a Ray cluster: an Engine on every device, and the job's own journal on the driver.

start.py   connecting to a cluster, or starting one on this machine
spec.py    how to load an engine, as data
pool.py    RayPool: tasks ── ray.data map_batches ──► actors ──► results, in the order of completion
actor.py   what runs on the cluster: an actor with an engine; the count of deaths per task
"""
