-- Closes every fence whose worker is no longer alive, with the state of its worker.
update fence
set state = worker.state
from worker
where worker.id = fence.worker and worker.state <> 'alive' and fence.state = 'alive'
