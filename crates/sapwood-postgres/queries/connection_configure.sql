-- How statements are planned, set once per connection, or for the rest of a transaction if $1. It decides about time only: no answer depends on it, so a pooler
-- that lends another session to the next statement does no harm. The statements find rows by key from arrays. The
-- statistics of a table that grew from nothing within a minute must not talk the planner out of that, so every other
-- kind of plan is switched off, and one generic plan serves arrays of every size.
select
    set_config('plan_cache_mode', 'force_generic_plan', $1),
    set_config('enable_seqscan', 'off', $1),
    set_config('enable_bitmapscan', 'off', $1),
    set_config('enable_hashjoin', 'off', $1),
    set_config('enable_mergejoin', 'off', $1),
    set_config('enable_memoize', 'off', $1),
    set_config('jit', 'off', $1);
