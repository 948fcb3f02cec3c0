"""The web console and the REST API: what people see of the ledger, and what they may do. Next: app.py."""
