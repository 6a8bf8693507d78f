-- How durable the commits of this connection are.
select journal_mode, synchronous
from pragma_journal_mode, pragma_synchronous
