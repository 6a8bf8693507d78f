-- Sends hints, one notification per payload.
select pg_notify($1, h.payload) from unnest($2::text[]) as h (payload);
