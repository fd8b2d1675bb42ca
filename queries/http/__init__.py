"""HTTP in streams: requests and responses, their bodies as files, and a table of transactions.

:mod:`~queries.http.messages` finds the messages of one stream, with :mod:`~queries.http.older` as tcpflow does,
:mod:`~queries.http.decoding` undoes what ``Content-Encoding`` names, :mod:`~queries.http.bodies` takes the bodies of a
bucket's streams, and :mod:`~queries.http.transactions` puts requests beside their responses.
"""
