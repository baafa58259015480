"""The store of the path of a message: the ledger and the journal behind one port."""
