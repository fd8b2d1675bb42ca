"""Connections out of packet tables: TCP connections, and conversations over UDP and ICMP.

:mod:`~queries.flows.packets` finds which packets belong together, :mod:`~queries.flows.connections` sums them up, and
:mod:`~queries.flows.folding` does so in the order of time where memory has no room for all packets of a connection.
"""
