-- What was fixed when this store was created.
select lanes from store_setting;
