-- Who works on this store. Ids are never used again (autoincrement): a dead worker stays dead for ever.
-- state: 0 alive, 1 dead (declared so, or left by its own will). Times are microseconds since 1970.
create table worker (
    id integer primary key autoincrement,
    name text not null,
    state integer not null default 0,
    joined_at integer not null,
    lease_until integer not null
) strict;

-- One row a committer or starter of a worker; every commit names it. A new incarnation cuts off what was sent before.
create table fence (
    worker integer not null,
    slot integer not null,
    incarnation integer not null default 0,
    state integer not null default 0,
    primary key (worker, slot)
) strict, without rowid;
