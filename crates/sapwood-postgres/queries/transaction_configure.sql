-- How the last statement of a transaction is planned, as `connection_configure.sql` says for all others.
select
    set_config('plan_cache_mode', 'force_generic_plan', true),
    set_config('enable_seqscan', 'off', true),
    set_config('enable_bitmapscan', 'off', true),
    set_config('enable_hashjoin', 'off', true),
    set_config('enable_mergejoin', 'off', true),
    set_config('enable_memoize', 'off', true),
    set_config('jit', 'off', true);
