"""What the ledger tells people: status, turnaround, readings, agreement, drift. It reads and never writes."""
