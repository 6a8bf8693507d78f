-- What makes a start happen once: a caller's id, an operation of a consumer, an event that a group takes in.
create table start_key (
    scope text collate "C" not null,
    key text collate "C" not null,
    tree_id uuid not null,
    digest bytea not null,
    -- Keys are thinned by age, once their trees are gone.
    created_at timestamptz not null,
    primary key (scope, key)
);
