insert into fence (worker, fence)
values (?, ?)
