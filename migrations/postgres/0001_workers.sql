-- The workers of this schema, and the fences that their commits take.

-- The one clock of all statements. Tests replace it, schema by schema, by one with an offset.
create function sapwood_now() returns timestamptz
    language sql volatile parallel safe
    as $$ select clock_timestamp() $$;

-- A worker lives as long as its process; its id is never used again.
create table worker (
    id bigint generated always as identity primary key,
    name text not null,
    -- By which other workers of its machine may find out that its process has ended; null if it does not tell.
    process uuid,
    -- 'dead' was declared by another worker, 'left' by the worker itself. Both are final.
    state text not null default 'alive' check (state in ('alive', 'dead', 'left')),
    -- True once a worker that is not alive owns no open tree: claims then stop looking for its trees.
    emptied boolean not null default false,
    joined_at timestamptz not null,
    -- Moves with each renewal of the lease. A watcher that saw it stand still for a whole lease, by a clock of its own, may
    -- declare the worker dead.
    renewals bigint not null default 0,
    lease_us bigint not null,
    ended_at timestamptz
) with (fillfactor = 50);

-- worker_renew: the other workers. The count of renewals is in no index, so that a renewal is a HOT update.
create index worker_alive on worker (id) where state = 'alive';

-- tree_claim: the workers whose trees are to be taken over; as a rule there are none.
create index worker_ended on worker (id) where state <> 'alive' and not emptied;

-- One row per committing connection, so that a connection which holds its row `for key share` holds up no other one.
create table fence (
    worker bigint not null,
    fence smallint not null,
    -- Counts the connections that had this fence. A commit names the incarnation of its connection, so a statement of
    -- an earlier connection that arrives late is refused.
    incarnation bigint not null default 0,
    state text not null default 'alive' check (state in ('alive', 'dead', 'left')),
    primary key (worker, fence)
) with (fillfactor = 50);
