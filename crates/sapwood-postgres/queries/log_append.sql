-- Appends records, the offsets of each topic in commit order: read under the topic's lock, which is held until the
-- commit is durable. Locks are taken in ascending order; two topics that share one only wait for each other.
with fresh as materialized (
    select r.*
    from unnest($1::text[], $2::text[], $3::text[], $4::bytea[]) with ordinality
        as r (topic, key, headers, content, place)
),
topic as materialized (
    select pg_advisory_xact_lock('log'::regclass::oid::integer, t.lock)
    from (select distinct hashtext(topic) as lock from fresh order by 1) t
),
head as materialized (
    select t.topic, log_head(t.topic) as head
    from (select distinct topic from fresh) t
    where (select count(*) from topic) >= 0
)
insert into log (topic, "offset", key, headers, content, time)
select
    r.topic,
    (select h.head from head h where h.topic = r.topic)
        + row_number() over (partition by r.topic order by r.place) - 1,
    r.key, r.headers, r.content, m.now
from fresh r, (select sapwood_now() as now offset 0) m;
