-- Moves the write-ahead log into the database and cuts it, unless a reader still needs it.
pragma wal_checkpoint(truncate)
