select lanes from meta;
