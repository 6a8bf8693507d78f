-- Takes places in lanes: for each pair (lane, count), the last of the places taken.
update lane
set last_seq = last_seq + wanted.places
from (
    select json_extract(value, '$[0]') as lane, json_extract(value, '$[1]') as places
    from json_each(?1)
) as wanted
where lane.lane = wanted.lane
returning lane.lane, lane.last_seq
