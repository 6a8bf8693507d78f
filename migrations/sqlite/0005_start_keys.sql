-- What makes a start happen once: a caller's id, an operation of a consumer, an event that a group takes in.
create table start_key (
    scope text not null,
    key text not null,
    tree_id blob not null,
    digest blob not null,
    -- Keys are thinned by age, once their trees are gone.
    created_at integer not null,
    primary key (scope, key)
) strict, without rowid;
