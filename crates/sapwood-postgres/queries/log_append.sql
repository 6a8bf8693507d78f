-- Appends records. The offsets of each topic are in commit order, because they are read under the lock of the topic,
-- which is held until the commit is durable. Locks are taken in ascending order; two topics whose hashes are equal only
-- wait for each other.
with fresh as materialized (
    select r.*
    from unnest($1::text[], $2::text[], $3::text[], $4::bytea[]) with ordinality
        as r (topic, key, headers, content, ordinal)
),
topics as materialized (
    select pg_advisory_xact_lock('context.log_record'::regclass::oid::integer, t.lock)
    from (select distinct hashtext(topic) as lock from fresh order by 1) t
),
heads as materialized (
    select t.topic, context.log_next_offset(t.topic) as next_offset
    from (select distinct topic from fresh) t
    where (select count(*) from topics) >= 0
)
insert into context.log_record (topic, log_offset, key, headers, content, time)
select
    r.topic,
    (select h.next_offset from heads h where h.topic = r.topic)
        + row_number() over (partition by r.topic order by r.ordinal) - 1,
    r.key, r.headers, r.content, m.now
from fresh r, (select context.sapwood_now() as now offset 0) m;
