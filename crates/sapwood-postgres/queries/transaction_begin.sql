-- Begins a transaction in which an author writes: planned as the server plans by itself, and never waiting for ever.
begin isolation level read committed;
set local plan_cache_mode to default;
set local enable_seqscan to default;
set local enable_bitmapscan to default;
set local enable_hashjoin to default;
set local enable_mergejoin to default;
set local enable_memoize to default;
set local jit to default;
set local lock_timeout to '10s';
set local idle_in_transaction_session_timeout to '60s';
