-- The dead who own nothing are not needed any more; without this, every claim would look at all who ever were.
delete from worker
where state = 1
  and not exists (select 1 from tree indexed by tree_owned where tree.owner = worker.id)
