-- Keys that only one tree can hold: a caller's id, an operation of a consumer, an event taken in by a group.

create table key (
    scope text collate "C" not null,
    key text collate "C" not null,
    tree_id uuid not null,
    digest bytea not null,
    -- Keys are thinned by age, once their trees are gone.
    created_at timestamptz not null,
    primary key (scope, key)
);
