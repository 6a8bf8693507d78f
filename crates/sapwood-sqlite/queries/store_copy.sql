-- Writes the whole database, as of one moment, to a file that is not there yet.
vacuum into ?1
