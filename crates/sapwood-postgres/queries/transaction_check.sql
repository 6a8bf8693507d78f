-- Checks what an author did in a transaction. Who ends it by hand runs in another one, which has another time. A table that
-- is only read is locked in a weaker mode.
select
    (extract(epoch from transaction_timestamp()) * 1000000)::bigint = $1 as is_same,
    (
        select t.name
        from unnest(array[
            'context.worker', 'context.fence', 'context.tree', 'context.invocation', 'context.control_request',
            'context.journal', 'context.timer', 'context.promise', 'context.start_key', 'context.store_setting',
            'context.lane', 'context.outbox', 'context.group_offset', 'context.log_record'
        ]) as t (name)
        join pg_locks l on l.relation = to_regclass(t.name)
        where l.pid = pg_backend_pid()
            and l.locktype = 'relation'
            and l.mode not in ('AccessShareLock', 'RowShareLock')
        limit 1
    ) as written;
