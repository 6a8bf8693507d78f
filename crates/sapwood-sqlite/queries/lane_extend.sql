-- Gives `seq`s in lanes: for each pair of a lane and a count, the last one given.
update lane
set last_seq = last_seq + wanted.events
from (
    select json_extract(value, '$[0]') as lane, json_extract(value, '$[1]') as events
    from json_each(?1)
) as wanted
where lane.lane = wanted.lane
returning lane.lane, lane.last_seq
