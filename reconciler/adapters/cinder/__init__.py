"""Storage backends: Cinder's volume drivers, each in a worker process of its own.

`backend` is the daemon's side and the only module that a daemon imports; it knows nothing of Cinder. All others run in the
worker, in this order: `worker` (requests and errors), `library` (Cinder without its services), `options` and `catalog` (what a
driver needs), `operations` (what Cinder's volume manager does around a driver) and `shadow` (the database that drivers expect).
"""
