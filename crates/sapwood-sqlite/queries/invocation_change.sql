update invocation
set attempt = ?, phase = ?, closing = ?, number = ?, seen = ?, outcome = ?, parked = ?,
    settled_at = coalesce(settled_at, max(created_at, ?))
where tree = ? and path = ?
