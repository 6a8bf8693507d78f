-- Deletes workers that are not alive and own no tree. Without this, every claim would look at all workers there ever
-- were.
delete from worker
where state <> 'alive'
  and not exists (select 1 from tree indexed by tree_owned where tree.owner = worker.id)
