"""The legacy side: the collections, through Motor, and what the proxy keeps beside them. Motor is called only here."""
