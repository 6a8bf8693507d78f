-- Taken for the session, so that the end of the connection gives it back whatever happens in between.
select pg_advisory_lock(hashtext('sapwood migrate'), hashtext($1));
