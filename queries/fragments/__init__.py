"""Fragments of IP packets, put together to whole packets of the packet table.

:mod:`~queries.fragments.headers` reads what fragments are of, :mod:`~queries.fragments.datagrams` finds those that make
a datagram, :mod:`~queries.fragments.whole` decodes it as if it had come whole, and
:mod:`~queries.fragments.collection` holds fragments until all of them are there.
"""
