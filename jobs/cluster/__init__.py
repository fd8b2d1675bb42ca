"""Tasks on Dask clusters, far away or on this machine; the only package that knows Dask."""
