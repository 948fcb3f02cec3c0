"""The fault harness: a real system, a stream of studies, one fault a round, and a verdict from outside.

``medai chaos --rounds N --seed S``. Read in this order: faults.py (the table), rounds.py (one round on one page),
checks.py (what must hold), site.py (the parts), proxy.py (what stands between them).
"""
