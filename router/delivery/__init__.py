"""Results on their way to archives, RIS and FHIR servers, each owed until it is received. Read first: courier.py."""
