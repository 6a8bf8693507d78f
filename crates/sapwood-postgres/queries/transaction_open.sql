-- Opens a transaction to an author, who must not hold up others for ever; tells its time, by which it is known again.
select
    set_config('lock_timeout', '10s', true) as lock_timeout,
    set_config('idle_in_transaction_session_timeout', '60s', true) as idle_timeout,
    (extract(epoch from transaction_timestamp()) * 1000000)::bigint as begun;
