-- The invocations that are not closed (a state of 5 or more is closed), and those that undo something again or failed to (their
-- closing is 1 or 3), parents before children, each with the highest completion number recorded for it and the next `seq` of its journal. The stored forms of its children begin with its
-- depth plus one, then have its own positions; the bounds are those of `Path::children_range`.
select path, function, version, attempt, state, closing, number, seen, outcome, parked,
    max(
        coalesce((
            select max(journal.number)
            from journal
            where journal.tree_id = invocation.tree_id and journal.path = invocation.path
        ), 0),
        coalesce((
            select max(child.number)
            from invocation as child
            where child.tree_id = invocation.tree_id
              and child.path between
                  unhex(
                      printf('%02X', (length(invocation.path) + 3) / 4) || substr(hex(invocation.path), 3) || '00000000'
                  )
                  and unhex(
                      printf('%02X', (length(invocation.path) + 3) / 4) || substr(hex(invocation.path), 3) || 'FFFFFFFF'
                  )
        ), 0)
    ),
    coalesce((
        select max(journal.seq) + 1
        from journal
        where journal.tree_id = invocation.tree_id and journal.path = invocation.path
    ), 0),
    deadline
from invocation
where tree_id = ?1 and (state < 5 or closing in (1, 3))
order by path
