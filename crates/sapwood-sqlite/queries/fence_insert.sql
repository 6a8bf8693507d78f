insert into fence (worker, slot) values (?, ?)
