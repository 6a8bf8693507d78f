-- Who works on this schema, and the fences that every commit holds.

-- The one clock of all statements. Tests replace it, schema by schema, by one with an offset.
create function sapwood_now() returns timestamptz
    language sql volatile parallel safe
    as $$ select clock_timestamp() $$;

-- A worker lives as long as its process; its id is never used again.
create table worker (
    id bigint generated always as identity primary key,
    name text not null,
    state text not null default 'alive' check (state in ('alive', 'dead', 'left')),
    -- Not alive any more, and none of its trees is left to be taken over.
    emptied boolean not null default false,
    joined_at timestamptz not null,
    expires_at timestamptz not null,
    ended_at timestamptz
) with (fillfactor = 50);

-- A renewal looks for others whose lease is over. The expiry itself is in no index, so that renewals are HOT updates.
create index worker_alive on worker (id) where state = 'alive';
-- A claim looks for those whose trees are to be taken over; as a rule there is none.
create index worker_ended on worker (id) where state <> 'alive' and not emptied;

-- One row a committing connection, so that nobody else waits where its commits hold it `for key share`.
create table fence (
    worker bigint not null,
    slot smallint not null,
    -- Of the connection: a statement of an earlier connection that is still on its way is refused by it.
    incarnation bigint not null default 0,
    state text not null default 'alive' check (state in ('alive', 'dead', 'left')),
    primary key (worker, slot)
) with (fillfactor = 50);
