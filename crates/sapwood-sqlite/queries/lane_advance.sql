-- Zero rows: another publisher has it. A cursor never goes back.
update lane
set cursor = max(cursor, ?)
where lane = ? and owner = ? and epoch = ?
