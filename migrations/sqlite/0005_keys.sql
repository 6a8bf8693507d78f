-- What makes a start happen once: a caller's id, a consumer's operation, a group's event.
create table start_key (
    scope text not null,
    key text not null,
    digest blob not null,
    tree blob not null,
    created_at integer not null,
    primary key (scope, key)
) strict, without rowid;
