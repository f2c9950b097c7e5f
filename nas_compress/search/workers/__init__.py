"""Several trainings at the same time: their number, processes of this machine, and a Dask cluster."""
