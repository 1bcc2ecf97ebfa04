"""The run folder: its keys, record, attempts, manifest snapshot, shards and ledger. No engine, no models."""
