"""Small files of a dataset into large ones: which go together, how they are written, and one commit.

A file can hold stretches of several captures and units: each capture's log entry says which rows are its.  Rows of a
stretch stay together and in their order, and stretches lie in the order of the dataset's captures (by first time, then
name), so that row groups are as narrow in time as the captures are.  All rows of a live file are live, since other
tools read files whole: where some of the captures of a file leave the dataset, the commit writes the rest anew.
"""
