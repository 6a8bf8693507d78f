-- Checks what an author did in a transaction: fails if it is not the one that was opened.
release sapwood_step
