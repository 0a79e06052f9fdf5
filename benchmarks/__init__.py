"""What Shoal costs beside what the machine could do: our figures, the raw bounds, and their ratios.

A time alone says something about a machine. Each row here therefore stands beside a bound: the same work, done by the
fewest lines that do it durably (plain `sqlite3`, plain TLS), in the same run on the same filesystem. Ours and the bound
take turns, and only the ratio is to be trusted.

    python -m benchmarks NAME [--json] [--events N] [--runs N]

The way of a figure: `events` makes the events and `library` a long log of them, the modules named like the benchmarks
measure ours and call the bounds in `raw` and `raw_tls`, `rounds` lets the two take turns, `report` makes medians,
ratios, a table or JSON of them, and says by the table in `goals` whether they are good enough.
"""
