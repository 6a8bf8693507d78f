-- Opens a transaction to an author. The mark is gone if it is ended by hand.
savepoint sapwood_step
