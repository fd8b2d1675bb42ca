"""TCP streams out of packet tables: which octets each direction of each connection carried, and what is missing.

:mod:`~queries.streams.packets` groups TCP packets by flow, :mod:`~queries.streams.follow` finds the streams of each
flow and the place of every segment, :mod:`~queries.streams.overlap` decides which of several segments an octet is taken
from, and :mod:`~queries.streams.assembly` puts them together; :mod:`~queries.streams.bucket` does all of that.

A *flow* is one direction of a pair of endpoints: (source, destination, source port, destination port).  A *stream* is
what it carried from its opening to its closing; a flow that is used again has several.
"""
