-- What was fixed when this store was created.
select lanes from context.store_setting;
