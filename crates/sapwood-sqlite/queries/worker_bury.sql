-- Declares workers dead, for ever, if they have not renewed since they were seen. That is compared here, under the write
-- lock, because a renewal may have come in between.
update worker
set state = 'dead', ended_at = ?2
from (
    select json_extract(value, '$[0]') as id, json_extract(value, '$[1]') as renewals
    from json_each(?1)
) as silent
where worker.id = silent.id and worker.renewals = silent.renewals and worker.state = 'alive'
returning worker.id
