-- Claims a tree from an owner that is not alive, and counts how often in a row, without a commit of the tree in between.
update tree
set owner = ?, revision = min(revision, 9223372036854775806) + 1, state = iif(state < 3, 0, state), ready_at = null, needs = null, aside = null,
    takeovers = iif(taken_over_at = revision, min(takeovers, 100) + 1, 1),
    taken_over_at = min(revision, 9223372036854775806) + 1
where id = ?
