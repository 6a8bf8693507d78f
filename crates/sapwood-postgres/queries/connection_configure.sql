-- What every statement of this crate relies on, set once per connection. The statements find rows by key from arrays.
-- The statistics of a table that grew from nothing within a minute must not talk the planner out of that, so every
-- other kind of plan is switched off, and one generic plan serves arrays of every size.
select
    set_config('search_path', quote_ident($1), false),
    set_config('application_name', $2, false),
    set_config('timezone', 'UTC', false),
    set_config('default_transaction_isolation', 'read committed', false),
    set_config('plan_cache_mode', 'force_generic_plan', false),
    set_config('enable_seqscan', 'off', false),
    set_config('enable_bitmapscan', 'off', false),
    set_config('enable_hashjoin', 'off', false),
    set_config('enable_mergejoin', 'off', false),
    set_config('enable_memoize', 'off', false),
    set_config('jit', 'off', false);
