-- Writes the whole state of an invocation. No row touched: there is no such invocation.
update invocation
set attempt = ?, state = ?, closing = ?, number = ?, seen = ?, outcome = ?, parked = ?,
    settled_at = coalesce(settled_at, max(created_at, ?))
where tree_id = ? and path = ?
