insert into log_record (topic, log_offset, time, key, headers, content)
values (?, ?, ?, ?, ?, ?)
