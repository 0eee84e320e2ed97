"""Move everything from SQLite to PostgreSQL, and prove row by row that it arrived.

The list of tables is what both databases say they have: one that only one of them has stops the move, and so
does a column or a type that is not known here. So a table that is new cannot be forgotten.

The source is only read, under a lock that keeps writers out. The target is filled in one transaction, in
which all of it is read back and compared; so a move that is killed leaves nothing but empty, marked tables,
and is simply repeated. Which database the node uses is not decided here.

    rows        what a value is on both sides, and the sum that stands for a whole table
    source      the SQLite file
    target      the PostgreSQL database, its mark and its sequences
    move        `plan`: what would happen; `move`: do it
"""
