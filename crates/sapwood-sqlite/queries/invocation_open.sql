-- The unsettled ones, parents before children, each with the highest completion number recorded for it. The stored
-- forms of its children begin with its depth plus one, then its own positions; the bounds are `Path::children_range`.
select path, function, version, attempt, phase, closing, number, seen, outcome, parked,
    max(
        coalesce((
            select max(entry.number)
            from entry
            where entry.tree = invocation.tree and entry.path = invocation.path
        ), 0),
        coalesce((
            select max(child.number)
            from invocation as child
            where child.tree = invocation.tree
              and child.path between
                  unhex(printf('%02X', (length(invocation.path) + 3) / 4) || substr(hex(invocation.path), 3) || '00000000')
                  and unhex(printf('%02X', (length(invocation.path) + 3) / 4) || substr(hex(invocation.path), 3) || 'FFFFFFFF')
        ), 0)
    )
from invocation
where tree = ?1 and phase <= 2
order by path
